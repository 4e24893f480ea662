use super::super::sample::{atom, binary, int, list, map, string, tuple};
use super::*;

#[test]
fn terms_are_shown_as_erlang_shows_them() {
    let text = string("hello");
    let binary = binary("a\nb");
    let map = map(&[(atom("reason"), text)]);
    let whole = tuple(&[
        atom("error"),
        list(&[int(7), vec![98, 0xff, 0xff, 0xff, 0xff], vec![106]]),
        map,
        binary,
        tuple(&[]),
    ]);
    let shown = "{error,[7,-1,[]],#{reason => \"hello\"},\"a?b\",{}}";
    assert_eq!(show(&whole, 200), shown);
    // What is of no kind that a person reads.
    assert_eq!(show(&tuple(&[vec![70, 0, 0, 0, 0, 0, 0, 0, 0]]), 200), "{<term>}");
    for end in 0..whole.len() {
        assert!(show(&whole[..end], 200).ends_with("<malformed>"), "{end}");
    }
}

#[test]
fn what_is_shown_is_bounded() {
    let wide = list(&vec![atom("a-rather-long-atom"); 3000]);
    for max in [10, 11, 12, 13, 200] {
        let shown = show(&wide, max);
        assert!(shown.len() <= max && shown.ends_with("..."), "{shown}");
    }
    let mut deep = vec![106];
    for _ in 0..2000 {
        deep = tuple(&[deep]);
    }
    let shown = show(&deep, 200);
    assert!(shown.starts_with("{{{{") && shown.contains("...}"), "{shown}");
    assert!(show(&atom("äöü"), 200) == "äöü");
    // A length that nobody sent the elements of.
    assert!(show(&[108, 0xff, 0xff, 0xff, 0xff], 200).len() <= 200);
    assert!(show(&[116, 0xff, 0xff, 0xff, 0xff, 106, 106], 200).len() <= 200);
}
