//! Digests as text: in hexadecimal, as people and other programs compare them.

use std::fmt::Write as _;

/// A digest in hexadecimal.
pub(crate) fn hex(digest: impl AsRef<[u8]>) -> String {
    let digest = digest.as_ref();
    let mut text = String::with_capacity(2 * digest.len());
    for byte in digest {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::hex;

    #[test]
    fn each_byte_has_two_digits() {
        assert_eq!(hex([0x00, 0x0f, 0xa0, 0xff]), "000fa0ff");
    }
}
