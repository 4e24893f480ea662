use super::*;

#[test]
fn what_may_be_a_secret_in_a_url_is_not_shown() {
    for (url, shown) in [
        ("http://h", "http://h"),
        ("http://h:80/a/b", "http://h:80/a/b"),
        ("http://h/hook?token=SECRET", "http://h/hook?******"),
        ("http://h?token=SECRET", "http://h?******"),
        ("http://h/hook#SECRET", "http://h/hook#******"),
        ("http://h/hook?a=1#SECRET", "http://h/hook?******"),
        ("http://h/hook?mail=a@SECRET", "http://h/hook?******"),
        ("http://[::1]:80/hook?mail=a@SECRET", "http://[::1]:80/hook?******"),
        ("http://h/hook?", "http://h/hook?"),
        ("http://user:SECRET@h/hook", "http://******@h/hook"),
        ("http://SECRET@h?x=SECRET", "http://******@h?******"),
        ("ftp://user:SE@CRET@h", "ftp://******@h"),
        ("http://user:SE/CRET@h/hook", "http://******"),
        ("http://user:SE?CRET@h/hook", "http://******"),
        ("http://user:SE#CRET@h/hook", "http://******"),
        ("http://h:80/who@where", "http://h:80/who@where"),
        // Not URLs, and written in place of one.
        ("h/hook?token=SECRET", "h/hook?******"),
        ("user:SECRET@h", "******@h"),
        ("http:\\/\\/h\\/?token=SECRET", "http:\\/\\/h\\/?******"),
        ("", ""),
    ] {
        assert_eq!(shown_url(url), shown);
        assert_eq!(shown_url(shown), shown, "once more");
    }
}

#[test]
fn urls_within_a_text_are_found() {
    for (text, shown) in [
        ("--url=http://h/?t=SECRET", "--url=http://h/?******"),
        (
            "a http://u:SECRET@h/ b\thttps://h?SECRET c?d",
            "a http://******@h/ b\thttps://h?****** c?d",
        ),
        ("why? no URL is here", "why? no URL is here"),
    ] {
        assert_eq!(shown_urls(text), shown);
    }
}
