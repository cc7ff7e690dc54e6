//! The demo's switchboard: kills and revives its applications, and shows what they have counted.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::demo::app::{App, Life};

/// The applications, in the order in which they are shown.
pub(crate) type Apps = Arc<[Arc<App>]>;

/// Serves the switchboard for as long as the demo runs.
pub(crate) async fn run(listener: TcpListener, apps: Apps) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let apps = Arc::clone(&apps);
        tokio::spawn(async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                let apps = Arc::clone(&apps);
                async move {
                    Ok::<_, Infallible>(answer(&apps, request.method(), request.uri().path(), request.headers()).await)
                }
            });
            let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

async fn answer(apps: &Apps, method: &Method, path: &str, headers: &http::HeaderMap) -> Response<Full<Bytes>> {
    // A page of another site must not kill anything; curl sends no Origin.
    if headers.contains_key(header::ORIGIN) {
        return text(StatusCode::FORBIDDEN, "not for pages of other sites\n".into());
    }
    let mut parts = path.split('/').skip(1);
    let (verb, name) = (parts.next().unwrap_or_default(), parts.next());
    let app = name.and_then(|name| apps.iter().find(|app| app.name == name));
    let life = match (verb, app) {
        ("", None) if name.is_none() => return text(StatusCode::OK, overview(apps)),
        ("kill", Some(_)) => Life::Dead,
        ("revive", Some(_)) => Life::Alive,
        _ => return text(StatusCode::NOT_FOUND, format!("there is no {path}\n{}", overview(apps))),
    };
    let Some(app) = app else { return text(StatusCode::NOT_FOUND, overview(apps)) };
    if method != Method::POST {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("use POST: curl -X POST ...{path}\n"));
        response.headers_mut().insert(header::ALLOW, http::HeaderValue::from_static("POST"));
        return response;
    }
    app.turn(life).await;
    text(StatusCode::OK, format!("{} is {}\n", app.name, word(life)))
}

fn overview(apps: &Apps) -> String {
    let line = |app: &Arc<App>| {
        format!("{:<8} {:<6} {:>8} requests  {}\n", app.name, word(app.life()), app.requests(), app.address)
    };
    let names: Vec<_> = apps.iter().map(|app| app.name).collect();
    format!(
        "{}\nPOST /kill/NAME and /revive/NAME, NAME is one of {}\n",
        apps.iter().map(line).collect::<String>(),
        names.join(", ")
    )
}

fn word(life: Life) -> &'static str {
    match life {
        Life::Alive => "alive",
        Life::Dead => "dead",
    }
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[tokio::test]
    async fn only_a_post_kills_and_revives() {
        let apps: Apps = [App::start("green").await.unwrap(), App::start("blue").await.unwrap()].into();
        let ask = async |method: Method, path: &str| answer(&apps, &method, path, &HeaderMap::new()).await.status();

        for (method, path, status) in [
            (Method::GET, "/", 200),
            (Method::GET, "/kill/green", 405),
            (Method::POST, "/kill/red", 404),
            (Method::POST, "/kill", 404),
            (Method::POST, "/hug/green", 404),
        ] {
            assert_eq!(ask(method, path).await.as_u16(), status, "{path}");
        }
        assert_eq!(apps[0].life(), Life::Alive);

        assert_eq!(ask(Method::POST, "/kill/green").await, StatusCode::OK);
        assert_eq!((apps[0].life(), apps[1].life()), (Life::Dead, Life::Alive));
        assert_eq!(ask(Method::POST, "/revive/green").await, StatusCode::OK);
        assert_eq!(apps[0].life(), Life::Alive);
    }

    #[tokio::test]
    async fn pages_of_other_sites_are_refused() {
        let apps: Apps = [App::start("green").await.unwrap()].into();
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, http::HeaderValue::from_static("https://evil.example"));
        let refused = answer(&apps, &Method::POST, "/kill/green", &headers).await;
        assert_eq!((refused.status(), apps[0].life()), (StatusCode::FORBIDDEN, Life::Alive));
    }
}
