//! Quoted texts: escapes, and the indentation of `"""~`.

/// The characters that a quoted text stands for; a backslash that escapes nothing stands
/// for itself, as in EMQX. `Err` is the position of a `\u` that names no character.
pub(super) fn unescape(chars: &[char]) -> Result<String, usize> {
    let mut text = String::with_capacity(chars.len());
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let escaped = if c == '\\' { chars.get(at + 1) } else { None };
        let (read, length) = match escaped {
            Some('"') => ('"', 2),
            Some('\\') => ('\\', 2),
            Some('b') => ('\u{8}', 2),
            Some('f') => ('\u{c}', 2),
            Some('n') => ('\n', 2),
            Some('r') => ('\r', 2),
            Some('t') => ('\t', 2),
            Some('u') => unicode(&chars[at..]).ok_or(at)?,
            _ => (c, 1),
        };
        text.push(read);
        at += length;
    }
    Ok(text)
}

/// `\uXXXX`, or a pair of them that is one character, and how many characters it takes.
fn unicode(chars: &[char]) -> Option<(char, usize)> {
    let unit = |from: usize| {
        let escape = chars.get(from..from + 6)?;
        let digits: String = escape[2..].iter().collect();
        let hex = escape.starts_with(&['\\', 'u']) && digits.chars().all(|c| c.is_ascii_hexdigit());
        hex.then(|| u16::from_str_radix(&digits, 16).ok())?
    };
    let first = unit(0)?;
    match char::decode_utf16([first]).next()? {
        Ok(c) => Some((c, 6)),
        Err(_) => char::decode_utf16([first, unit(6)?]).next()?.ok().map(|c| (c, 12)),
    }
}

/// The text between `"""` and `"""`: line ends are `\n`, and behind a `~` that ends the
/// first line the indentation is taken away.
pub(super) fn block(body: &str) -> String {
    let body = body.replace("\r\n", "\n");
    match body.strip_prefix("~\n") {
        Some(indented) => unindent(indented),
        None => body,
    }
}

/// EMQX's rule for `"""~`: the indentation is the least of the lines that hold something; a
/// last line of blanks may have less, and a `~` that ends it is dropped.
fn unindent(body: &str) -> String {
    let mut lines: Vec<&str> = body.split('\n').collect();
    let last = lines.pop().unwrap_or_default();
    let last = last.strip_suffix('~').unwrap_or(last);
    let spaces = |line: &str| line.bytes().take_while(|b| *b == b' ').count();
    let of_lines = lines.iter().filter(|line| !line.is_empty()).map(|line| spaces(line)).min();
    let only_spaces = last.bytes().all(|b| b == b' ');
    let indent = match of_lines {
        Some(least) if only_spaces => least,
        Some(least) => least.min(spaces(last)),
        None if only_spaces => 0,
        None => spaces(last),
    };
    lines.push(last);
    let cut = |line: &&str| line[indent.min(spaces(line))..].to_owned();
    lines.iter().map(cut).collect::<Vec<_>>().join("\n")
}
