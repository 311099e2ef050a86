//! Files that are fetched.

/// To be saved under that name: for old clients in what ASCII can say of it, for all
/// others whole.
pub fn attachment(name: &str) -> String {
    let plain = |c: char| if matches!(c, ' '..='~') && !matches!(c, '"' | '\\' | '%') { c } else { '_' };
    let plain: String = name.chars().map(plain).collect();
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut encoded = String::new();
    for byte in name.bytes() {
        match is_bare(byte) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_header() {
        assert_eq!(attachment("sys.log"), "attachment; filename=\"sys.log\"; filename*=UTF-8''sys.log");
        let odd = "attachment; filename=\"a_; x=_ _.log\"; filename*=UTF-8''a%22%3B%20x%3D%22%20%C3%A9.log";
        assert_eq!(attachment("a\"; x=\" é.log"), odd);
    }
}
