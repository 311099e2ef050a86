//! Runs: what the server asked for, carried out once, whatever breaks.
//!
//! * [`entry`]: what is written into a run's journal;
//! * [`plan`]: which command comes next, and how a run ends;
//! * [`machine`]: one run, made of its journal's entries;
//! * [`book`]: every run of the device, and whose turn it is;
//! * [`effect`]: what goes into the book, and what comes out;
//! * [`journal`], [`store`]: the disk;
//! * [`driver`]: the thread that does what the book says.
//!
//! Everything up to the book is pure. The book answers each input with effects in
//! order, and the driver carries them out in order: a journal entry is on the disk
//! before the effect that follows it is begun. When an effect fails, the driver
//! throws the book away and makes it anew from the disk, as after a restart, so
//! there is one way to recover and it is always the same.

pub mod book;
pub mod driver;
pub mod effect;
pub mod entry;
pub mod journal;
pub mod machine;
pub mod plan;
pub mod store;

#[cfg(test)]
mod tests;
