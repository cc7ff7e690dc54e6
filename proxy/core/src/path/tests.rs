use proptest::prelude::*;

use super::*;

fn check(cases: &[(&str, Option<&str>)]) {
    for (raw, expected) in cases {
        let parsed = RequestPath::parse(raw);
        assert_eq!(parsed.as_ref().ok().map(RequestPath::canonical), *expected, "{raw:?}");
    }
}

#[test]
fn plain_paths_are_their_own_canonical_form() {
    for path in
        ["/", "/a", "/a/b/", "/.well-known/x", "/a.b/..c/d..", "/...", "/a;b=1", "/a%2Fb", "/caf%C3%A9", "/a%20b", "/é"]
    {
        check(&[(path, Some(path))]);
        assert!(matches!(RequestPath::parse(path).unwrap().canonical, Cow::Borrowed(_)), "{path} is copied");
    }
}

#[test]
fn spellings_of_one_path_have_one_canonical_form() {
    check(&[
        ("//", Some("/")),
        ("//a///b//", Some("/a/b/")),
        ("/%61%2D%2e%7Eb", Some("/a-.~b")),
        ("/a%2fb%c3%a9", Some("/a%2Fb%C3%A9")),
        ("/%2525", Some("/%2525")),
        ("/é%61", Some("/éa")),
        ("", Some("/")),
        ("*", Some("/")),
    ]);
}

#[test]
fn dot_segments_are_refused_in_every_spelling() {
    let dots = [".", "..", "%2e", "%2E", "%2e%2e", "%2E.", ".%2e", ".;", "..;", "..;a=b", "%2e%2e;x", "..%3bx", ";/.."];
    for segment in dots {
        for path in
            [format!("/{segment}"), format!("/a/{segment}/b"), format!("/a/{segment}"), format!("/a//{segment}/")]
        {
            check(&[(&path, None)]);
        }
    }
    // Beside an escaped slash or backslash, which some origins take for a border.
    for path in ["/a%2f..", "/..%2Fa", "/a%2f%2e%2e%2fb", "/a%5c..%5Cb", "/..%5cb", "/a/.%2f", "/a;x%2f..", "/..;a%2fb"]
    {
        check(&[(path, None)]);
    }
}

#[test]
fn names_with_dots_are_no_dot_segments() {
    for path in ["/...", "/..a", "/a..", "/a.%2eb", "/.a", "/;..", "/a;..", "/%252e%252e", "/.%20"] {
        assert!(RequestPath::parse(path).is_ok(), "{path}");
    }
}

#[test]
fn broken_escapes_and_bytes_that_no_path_has_are_refused() {
    for path in [
        "/%",
        "/%2",
        "/%zz",
        "/%2g",
        "/a%",
        "/%%41",
        "/%00",
        "/a%00b",
        "/\0",
        "/a b",
        "/a\tb",
        "/\x7f",
        "/a\\b",
        "\\",
        "/a#b",
        "/a?b",
        "a",
        "a/b",
        "http://a/",
        "**",
        "?",
    ] {
        check(&[(path, None)]);
    }
}

#[test]
fn prefix_ends_at_a_segment() {
    for (path, prefix, expected) in [
        ("/a/b", "/a", true),
        ("/a", "/a", true),
        ("/a/", "/a", true),
        ("/ab", "/a", false),
        ("/", "/a", false),
        ("/a", "", true),
        ("/a", "/", true),
        ("/a//b", "/a/b", true),
        ("/a%2Fb", "/a", false),
    ] {
        assert_eq!(RequestPath::parse(path).unwrap().is_below(prefix), expected, "{path} below {prefix}");
    }
}

#[test]
fn strip_leaves_nothing_or_a_path_with_one_slash() {
    for (path, segments, rest) in [
        ("/a/b", 0, "/a/b"),
        ("/a/b", 1, "/b"),
        ("/a/b", 2, ""),
        ("/a/b/", 2, "/"),
        ("//a//b", 1, "/b"),
        ("/a//evil.example/x", 1, "/evil.example/x"),
        ("/%61/b", 1, "/b"),
        ("/a", 1, ""),
        ("/a//", 1, "/"),
    ] {
        let parsed = RequestPath::parse(path).unwrap();
        assert_eq!(&path[parsed.strip(segments)..], rest, "{segments} of {path}");
    }
}

/// What the most lenient origin makes of a path: decodes everything, takes backslashes for slashes, cuts
/// parameters, merges slashes and resolves dots.
fn lenient(path: &str) -> Option<Vec<String>> {
    let decode = |text: &str| {
        let mut out = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((byte, tail)) = rest.split_first() {
            let digits =
                tail.get(..2).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
            match (byte, digits) {
                (b'%', Some(byte)) => {
                    out.push(byte);
                    rest = &tail[2..];
                }
                _ => {
                    out.push(*byte);
                    rest = tail;
                }
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    let decoded = decode(path).replace('\\', "/");
    let mut segments: Vec<String> = Vec::new();
    for segment in decoded.split('/').map(|segment| segment.split(';').next().unwrap_or_default()) {
        match segment {
            "" | "." => (),
            ".." => drop(segments.pop()?),
            other => segments.push(other.into()),
        }
    }
    Some(segments)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn no_origin_can_leave_the_prefix_that_routing_saw(path in "(/|//|\\.|%2e|%2E|%2f|%5c|%5C|;|a|b|%61|%25|\\\\|%3b|x){1,12}") {
        let path = format!("/a/{path}");
        if let Ok(parsed) = RequestPath::parse(&path) {
            prop_assert!(parsed.is_below("/a"));
            prop_assert_eq!(lenient(&path).and_then(|segments| segments.first().cloned()), Some("a".to_string()));
        }
    }

    #[test]
    fn canonical_form_is_stable(path in "/(/|\\.|%2e|%2f|%C3%A9|%c3%a9|a|~|%7e|é|%){0,12}") {
        if let Ok(parsed) = RequestPath::parse(&path) {
            let again = RequestPath::parse(parsed.canonical()).unwrap();
            prop_assert_eq!(again.canonical(), parsed.canonical());
        }
    }

    #[test]
    fn strip_and_rest_never_panic_and_begin_with_one_slash(path in "/(/|a|%61|é|\\.|;){0,12}", segments in 0..4_usize) {
        if let Ok(parsed) = RequestPath::parse(&path) {
            let rest = path.get(parsed.strip(segments)..).unwrap();
            prop_assert!(segments == 0 || rest.is_empty() || (rest.starts_with('/') && !rest.starts_with("//")));
        }
    }
}
