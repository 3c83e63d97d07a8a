//! What the kernel may answer, and what nobody should.

use super::*;
use crate::engine::embedded::fault::errno;

/// An answer with a header, a code, and the header of the request that it is about.
fn answer(kind: u16, code: i32) -> Vec<u8> {
    let mut bytes = 36u32.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&[0; 10]);
    bytes.extend_from_slice(&code.to_ne_bytes());
    bytes.extend_from_slice(&[0; 16]);
    bytes
}

#[test]
fn an_acknowledgement_is_one_and_an_error_is_the_kernels() {
    acknowledged(&answer(ERROR, 0)).unwrap();
    let error = acknowledged(&answer(ERROR, -19)).unwrap_err();
    assert_eq!(errno(&error), Some(nix::errno::Errno::ENODEV as i32), "{error}");
}

#[test]
fn what_is_no_acknowledgement_is_an_error() {
    let check = |bytes: &[u8], expected: &str| {
        assert_eq!(acknowledged(bytes).unwrap_err().to_string(), expected);
    };
    check(&answer(16, 0), "netlink answered with a message of type 16 instead of an acknowledgement");
    check(&answer(ERROR, 1), "netlink answered with the code 1, which is no error");
    check(&[], "netlink answered with 0 bytes, too few for an acknowledgement");
    check(&answer(ERROR, 0)[..19], "netlink answered with 19 bytes, too few for an acknowledgement");
    check(&answer(ERROR, 0)[..20], "netlink answered with 20 bytes that say they are 36");
    let mut short = answer(ERROR, 0);
    short[..4].copy_from_slice(&8u32.to_ne_bytes());
    check(&short, "netlink answered with 36 bytes that say they are 8");
}

#[test]
fn an_attribute_is_padded_and_says_its_length_without_the_padding() {
    let mut message = Message::address(1, 24);
    let before = message.bytes().len();
    message.text(IFNAME, "eth10");
    let bytes = message.bytes();
    assert_eq!(bytes.len(), before + 12);
    assert_eq!(bytes[before..before + 2], 10u16.to_ne_bytes());
    assert_eq!(&bytes[before + 4..], b"eth10\0\0\0");
}
