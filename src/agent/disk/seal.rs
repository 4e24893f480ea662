//! The checksum of the state file: a file that differs in one bit from what was written
//! is not read.
//!
//! It is the first field of the JSON object, always at the same place, and covers every
//! other byte of the file. A file without it is one of format 1, which had none.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// How a file with a checksum begins; the digits follow.
const HEAD: &[u8] = b"{\n  \"checksum\": \"";
/// Hexadecimal digits of SHA-256.
const DIGITS: usize = 64;

/// The file for an object that was written with two blanks of indentation.
pub(super) fn sealed(object: &[u8]) -> Vec<u8> {
    let fields = object.strip_prefix(b"{\n").unwrap_or(object);
    let tail = [b"\",\n", fields].concat();
    [HEAD, digits(&tail).as_bytes(), &tail].concat()
}

/// Whether a file has a checksum.
///
/// # Errors
/// It has one that does not fit the rest.
pub(super) fn is_sealed(file: &[u8]) -> Result<bool, String> {
    let Some(rest) = file.strip_prefix(HEAD) else { return Ok(false) };
    // The text is compared, so that a flipped letter case is a difference, too.
    match rest.split_at_checked(DIGITS) {
        Some((given, tail)) if digits(tail).as_bytes() == given => Ok(true),
        _ => Err("is damaged (its checksum does not fit what it holds)".to_owned()),
    }
}

fn digits(tail: &[u8]) -> String {
    let sum = Sha256::new().chain_update(HEAD).chain_update(tail).finalize();
    sum.iter().fold(String::with_capacity(DIGITS), |mut text, byte| {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
