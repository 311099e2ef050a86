//! The muster-agent executable.
fn main() {}
