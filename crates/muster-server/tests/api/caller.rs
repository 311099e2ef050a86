//! Who asks, and what they are answered.

use muster_core::token::Secret;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use reqwest::{Method, RequestBuilder, Url};
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::house::Keys;

/// One who asks, with their tokens.
pub(crate) struct Caller<'a> {
    app: &'a TestApp,
    pub(crate) keys: Keys,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(app: &'a TestApp, keys: Keys) -> Self {
        Self { app, keys }
    }

    /// A request with the caller's access token; a path without a leading slash is below the fleet `demo`.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/api/v2/demo/{path}") };
        let request = self.app.http().request(method, format!("http://{}{path}", self.app.address()));
        match self.keys.access.expose() {
            "" => request,
            token => request.header(AUTHORIZATION, format!("Bearer {token}")),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        answer(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        answer(self.request(Method::PUT, path).json(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        answer(self.request(Method::DELETE, path)).await
    }

    /// The same caller with another access token.
    pub(crate) fn with_token(&self, token: &str) -> Caller<'a> {
        Caller { app: self.app, keys: Keys { access: Secret::received(token), ..self.keys.clone() } }
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        answer(self.request(Method::PATCH, path).json(body)).await
    }

    /// Changes one device, by operations of `PATCH`, which must succeed.
    pub(crate) async fn change(&self, device_uuid: &str, operations: &Value) -> Value {
        self.patch(&format!("devices/{device_uuid}"), &json!({ "operations": operations })).await.ok(200)
    }

    /// Sends a flow document.
    pub(crate) async fn post_yaml(&self, path: &str, document: &str) -> Answer {
        let request = self.request(Method::POST, path).header(CONTENT_TYPE, "application/yaml");
        answer(request.body(document.to_owned())).await
    }

    /// A call of API v1: the account token stands in the body.
    pub(crate) async fn v1(&self, method: Method, path: &str, body: &Value) -> Answer {
        let mut body = body.clone();
        if !self.keys.user.expose().is_empty() {
            body["user_token"] = json!(self.keys.user);
        }
        answer(self.bare(method, path).json(&body)).await
    }

    pub(crate) async fn v1_get(&self, path: &str, body: &Value) -> Answer {
        self.v1(Method::GET, path, body).await
    }

    pub(crate) async fn v1_post(&self, path: &str, body: &Value) -> Answer {
        self.v1(Method::POST, path, body).await
    }

    pub(crate) async fn v1_delete(&self, path: &str, body: &Value) -> Answer {
        self.v1(Method::DELETE, path, body).await
    }

    /// Sends a file of the device that bears the token.
    pub(crate) async fn send_file(&self, device_token: &Secret, name: &str, bytes: &[u8]) -> Answer {
        let tokens = json!({ "user_token": self.keys.user, "device_token": device_token }).to_string();
        self.send_form(&[json_part(&tokens), file_part(name, bytes)]).await
    }

    /// Sends a form of these parts to `send_log_file`.
    pub(crate) async fn send_form(&self, parts: &[Vec<u8>]) -> Answer {
        let mut body = Vec::new();
        for part in parts {
            body.extend_from_slice(b"--boundary\r\n");
            body.extend_from_slice(part);
        }
        body.extend_from_slice(b"--boundary--\r\n");
        answer(self.raw_form(body)).await
    }

    /// The same with whatever body.
    pub(crate) fn raw_form(&self, body: Vec<u8>) -> RequestBuilder {
        let request = self.bare(Method::POST, "/v1/send_log_file");
        request.header(CONTENT_TYPE, "multipart/form-data; boundary=boundary").body(body)
    }

    /// A request without any header.
    pub(crate) fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.app.http().request(method, format!("http://{}{path}", self.app.address()))
    }
}

/// The part `json` of a form.
pub(crate) fn json_part(text: &str) -> Vec<u8> {
    part("json\"", "application/json", text.as_bytes())
}

/// The part `file` of a form.
pub(crate) fn file_part(name: &str, bytes: &[u8]) -> Vec<u8> {
    part(&format!("file\"; filename=\"{name}\""), "application/octet-stream", bytes)
}

/// A part of a form, from its name on.
pub(crate) fn part(name: &str, kind: &str, bytes: &[u8]) -> Vec<u8> {
    let head = format!("Content-Disposition: form-data; name=\"{name}\r\nContent-Type: {kind}\r\n\r\n");
    [head.as_bytes(), bytes, b"\r\n"].concat()
}

/// What a caller was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) sent: Sent,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

/// What was asked: the address, and the body where it is text.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) url: Url,
    pub(crate) body: Option<String>,
}

/// Sends a request.
pub(crate) async fn answer(request: RequestBuilder) -> Answer {
    let (http, request) = request.build_split();
    let request = request.unwrap();
    let body = request.body().and_then(|body| body.as_bytes()).map(|body| String::from_utf8_lossy(body).into_owned());
    let sent = Sent { url: request.url().clone(), body };
    let response = http.execute(request).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { sent, status, headers, text: response.text().await.unwrap() }
}

impl Answer {
    /// The body, which must be JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of an answer with that status.
    #[track_caller]
    pub(crate) fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.json()
    }

    /// The answer has that status and no body.
    #[track_caller]
    pub(crate) fn empty(&self, status: u16) {
        assert_eq!((self.status, self.text.as_str()), (status, ""), "{self:?}");
    }

    /// Nothing to say: it is done.
    #[track_caller]
    pub(crate) fn done(&self) {
        assert_eq!((self.status, self.text.as_str()), (204, ""), "{self:?}");
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}")).to_str().unwrap()
    }

    /// The text of an error of API v1, whose body must hold nothing else.
    #[track_caller]
    pub(crate) fn v1_error(&self) -> String {
        let body = self.ok(400);
        let text = body["error_message"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned();
        assert_eq!(body, json!({ "error_message": text }));
        text
    }

    /// The text of an error of the Agent API, whose body must hold nothing else.
    #[track_caller]
    pub(crate) fn agent_error(&self, status: u16) -> String {
        let body = self.ok(status);
        let text = body["message"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned();
        assert_eq!(body, json!({ "error_message": text, "message": text }));
        text
    }

    /// The status, code and text of an error of API v2, whose body must hold nothing more than is documented.
    #[track_caller]
    pub(crate) fn v2_error(&self) -> (u16, String, String) {
        let body = self.json();
        let text = |key: &str| body[key].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned();
        let (message, code, request_id) = (text("message"), text("code"), text("request_id"));
        let whole = json!({ "message": message, "error_message": message, "code": code, "request_id": request_id });
        assert_eq!(body, whole);
        assert_eq!(self.header("x-request-id"), request_id);
        (self.status, code, message)
    }

    /// The status and text of an error of API v2.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16) -> String {
        let (actual, _, message) = self.v2_error();
        assert_eq!(actual, status, "{self:?}");
        message
    }
}
