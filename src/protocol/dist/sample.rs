//! Terms for tests, as bytes.

pub(crate) fn atom(text: &str) -> Vec<u8> {
    let mut out = vec![119, u8::try_from(text.len()).unwrap()];
    out.extend_from_slice(text.as_bytes());
    out
}

pub(crate) fn int(value: u8) -> Vec<u8> {
    vec![97, value]
}

pub(crate) fn tuple(elements: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![104, u8::try_from(elements.len()).unwrap()];
    out.extend(elements.concat());
    out
}

fn length(count: usize) -> [u8; 4] {
    u32::try_from(count).unwrap().to_be_bytes()
}

pub(crate) fn list(elements: &[Vec<u8>]) -> Vec<u8> {
    if elements.is_empty() {
        return vec![106];
    }
    [&[108][..], &length(elements.len()), &elements.concat(), &[106]].concat()
}

pub(crate) fn map(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = [&[116][..], &length(pairs.len())].concat();
    for (key, value) in pairs {
        out.extend_from_slice(key);
        out.extend_from_slice(value);
    }
    out
}

/// A list of bytes in its short form.
pub(crate) fn string(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap().to_be_bytes();
    [&[107][..], &length, text.as_bytes()].concat()
}

pub(crate) fn binary(text: &str) -> Vec<u8> {
    [&[109][..], &length(text.len()), text.as_bytes()].concat()
}

/// `{badrpc, {'EXIT', Reason}}`.
pub(crate) fn exit(reason: Vec<u8>) -> Vec<u8> {
    tuple(&[atom("badrpc"), tuple(&[atom("EXIT"), reason])])
}
