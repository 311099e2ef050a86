//! Requests of the Tag Service, signed as its SDKs sign them.

use muster_server::access::bce_auth::{Request, SignedHeaders, Signer};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::caller::{Answer, answer};

/// Asks the Tag Service, signed or not.
pub(crate) struct TagService<'a> {
    app: &'a TestApp,
    signer: Option<Signer>,
}

impl<'a> TagService<'a> {
    pub(crate) fn new(app: &'a TestApp, signer: Option<Signer>) -> Self {
        Self { app, signer }
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        answer(self.request(Method::GET, target, "")).await
    }

    pub(crate) async fn put(&self, target: &str, body: &Value) -> Answer {
        answer(self.request(Method::PUT, target, &body.to_string())).await
    }

    pub(crate) async fn post(&self, target: &str, body: &Value) -> Answer {
        answer(self.request(Method::POST, target, &body.to_string())).await
    }

    /// A request with whatever body, signed with the default headers.
    pub(crate) fn request(&self, method: Method, target: &str, body: &str) -> RequestBuilder {
        let (address, length) = (self.app.address().to_string(), body.len().to_string());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers: Vec<(&str, &[u8])> =
            vec![("host", address.as_bytes()), ("content-type", b"application/json; charset=utf-8")];
        if !body.is_empty() {
            headers.push(("content-length", length.as_bytes()));
        }
        let request = Request { method: method.as_str(), path, query, headers: &headers, body: body.as_bytes() };
        let now = self.app.app().clock().now();
        let signature = self.signer.as_ref().map(|signer| signer.sign(&request, &SignedHeaders::Default, now));
        let url = format!("http://{address}{target}");
        let request = self.app.http().request(method, url).header(HOST, &address);
        let request = request.header(CONTENT_TYPE, "application/json; charset=utf-8");
        let request = if body.is_empty() { request } else { request.body(body.to_owned()) };
        match signature {
            Some(signature) => request.header(AUTHORIZATION, signature),
            None => request,
        }
    }

    /// The tags of the account, as pairs.
    pub(crate) async fn tags(&self, query: &str) -> Vec<(String, String)> {
        let listed = self.get(&format!("/v1/tag{query}")).await.ok(200);
        let text = |tag: &Value, key: &str| tag[key].as_str().unwrap().to_owned();
        let tags = listed["tags"].as_array().unwrap();
        tags.iter().map(|tag| (text(tag, "tagKey"), text(tag, "tagValue"))).collect()
    }
}

impl Answer {
    /// The code and message of an error of the Tag Service, whose body must hold nothing
    /// else but the id that its header has too.
    #[track_caller]
    pub(crate) fn tag_error(&self, status: u16) -> (String, String) {
        let body = self.ok(status);
        let text = |key: &str| body[key].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned();
        let (code, message) = (text("code"), text("message"));
        let id = self.header("x-bce-request-id");
        assert_eq!(body, json!({ "requestId": id, "code": code, "message": message }));
        (code, message)
    }
}

/// A list of tags as bodies hold it.
pub(crate) fn tag_list(tags: &[(&str, &str)]) -> Value {
    let tags = tags.iter().map(|(key, value)| json!({ "tagKey": key, "tagValue": value }));
    json!({ "tags": tags.collect::<Vec<_>>() })
}
