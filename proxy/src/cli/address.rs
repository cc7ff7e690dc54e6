//! Where the admin API is, parsed once from `--server` or `TIDEGATE_ADMIN`.

use std::{fmt, path::PathBuf, str::FromStr};

/// The address of an admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServerAddress {
    /// `http://host:port`.
    Tcp {
        /// Name or address, without the brackets of IPv6.
        host: String,
        /// The port.
        port: u16,
    },
    /// `unix:/path`.
    Unix(PathBuf),
}

impl ServerAddress {
    /// What goes into the Host header.
    pub(crate) fn authority(&self) -> String {
        match self {
            Self::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port } => format!("{host}:{port}"),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { .. } => write!(f, "http://{}", self.authority()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for ServerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err("a Unix socket needs an absolute path, as in unix:/run/tidegate/admin.sock".into())
            };
        }
        if text.starts_with("https://") {
            return Err(
                "https is not spoken here: open a tunnel (`ssh -L 3091:127.0.0.1:3091 HOST`) and use http://127.0.0.1:3091"
                    .into(),
            );
        }
        let bad = |why: &str| format!("{why}; write http://host:port or unix:/path");
        let rest = text.strip_prefix("http://").unwrap_or(text);
        if rest.contains("://") {
            return Err(bad("only http is spoken here"));
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return Err(bad("it holds more than a host and a port"));
        }
        let parsed: http::uri::Authority = authority.parse().map_err(|_| bad("this is not a host and a port"))?;
        let host = parsed.host().trim_start_matches('[').trim_end_matches(']');
        // `port_u16` is also `None` for a port that is not a number; the text tells the two apart.
        let port = match parsed.port_u16() {
            Some(port) if port != 0 => port,
            None if parsed.as_str() == parsed.host() => 80,
            _ => return Err(bad("the port is not 1 to 65535")),
        };
        if host.is_empty() { Err(bad("the host is missing")) } else { Ok(Self::Tcp { host: host.to_owned(), port }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, shown: &str, authority: &str) {
        let parsed: ServerAddress = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((parsed.to_string().as_str(), parsed.authority().as_str()), (shown, authority));
    }

    #[test]
    fn an_address_is_a_host_and_a_port_or_a_socket() {
        check("http://127.0.0.1:3091", "http://127.0.0.1:3091", "127.0.0.1:3091");
        check("http://127.0.0.1:3091/", "http://127.0.0.1:3091", "127.0.0.1:3091");
        check("localhost:3091", "http://localhost:3091", "localhost:3091");
        check("http://admin.example", "http://admin.example:80", "admin.example:80");
        check("http://[::1]:3091", "http://[::1]:3091", "[::1]:3091");
        check("unix:/run/tidegate/admin.sock", "unix:/run/tidegate/admin.sock", "localhost");
        check("unix:///run/admin.sock", "unix:/run/admin.sock", "localhost");
    }

    #[test]
    fn a_wrong_address_says_what_to_write() {
        for text in
            ["", "http://", "http://:3091", "http://h:0", "http://h:99999", "http://h/api", "ftp://h", "a b", "h:x"]
        {
            let error = text.parse::<ServerAddress>().expect_err(text);
            assert!(error.ends_with("write http://host:port or unix:/path"), "{text}: {error}");
        }
        assert!("unix:relative.sock".parse::<ServerAddress>().expect_err("relative").contains("absolute path"));
        assert!("http://user:secret@h:1".parse::<ServerAddress>().is_err());
    }

    #[test]
    fn https_is_refused_with_a_way_out() {
        assert!("https://h:1".parse::<ServerAddress>().expect_err("https").contains("ssh -L"));
    }
}
