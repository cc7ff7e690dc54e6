//! The document of a deployment from a file, sent as it is.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use bytes::Bytes;

use super::document;
use crate::cli::{args::DocumentArgs, client::Body, error::CliError};

/// Longest document: above what the admin API takes, whose refusal says more.
const MAX_DOCUMENT: u64 = 4 << 20;

/// Reads a document beside which no option says anything.
pub(super) fn alone(path: &Path, args: &DocumentArgs) -> Result<Body, CliError> {
    match document::given(args).as_slice() {
        [] => read(path),
        given => {
            let given = given.join(", ");
            Err(CliError::Usage(format!("--file is sent as it is: say there what {given} would say here")))
        }
    }
}

/// Reads a document; `-` is stdin.
fn read(path: &Path) -> Result<Body, CliError> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        io::stdin().lock().take(MAX_DOCUMENT).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(MAX_DOCUMENT).read_to_end(&mut bytes))
    };
    read.map_err(|error| CliError::Io { what: format!("cannot read {}", path.display()), error })?;
    Ok(Body::Document { content_type: content_type(path, &bytes), bytes: Bytes::from(bytes) })
}

/// By the file's name; where that says nothing, JSON begins with a brace and TOML does not.
fn content_type(path: &Path, bytes: &[u8]) -> &'static str {
    let json = match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => true,
        Some("toml") => false,
        _ => bytes.trim_ascii_start().starts_with(b"{"),
    };
    if json { "application/json" } else { "application/toml" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_known_by_its_name_or_its_beginning() {
        for (path, text, expected) in [
            ("a.json", "strategy = 1", "application/json"),
            ("a.toml", "{}", "application/toml"),
            ("-", " \n{\"a\":1}", "application/json"),
            ("-", "a = 1", "application/toml"),
            ("a.txt", "", "application/toml"),
        ] {
            assert_eq!(content_type(Path::new(path), text.as_bytes()), expected, "{path} {text}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read(Path::new("/nowhere/canary.toml")).unwrap_err();
        assert!(error.to_string().starts_with("cannot read /nowhere/canary.toml: "), "{error}");
    }
}
