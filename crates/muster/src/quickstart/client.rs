//! The calls of the story, over HTTP, as any program would make them.

use anyhow::{Context, bail};
use muster_link::ServerPin;
use muster_server::fleet::bootstrap::{FIRST_FLEET, Tokens};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

/// A client of both APIs.
pub(super) struct Client {
    http: reqwest::Client,
    url: String,
    user_token: String,
    access_token: String,
}

impl Client {
    pub(super) fn new(url: &str, pin: Option<ServerPin>, tokens: &Tokens) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().tls_backend_preconfigured(crate::tls_config(url, pin)?);
        Ok(Self {
            http: http.build()?,
            url: url.to_owned(),
            user_token: tokens.user.expose().to_owned(),
            access_token: tokens.access.expose().to_owned(),
        })
    }

    /// A call of API v1: the account token goes into the body.
    pub(super) async fn v1(&self, method: Method, path: &str, mut body: Value) -> anyhow::Result<Value> {
        body["user_token"] = json!(self.user_token);
        self.call(self.http.request(method, format!("{}/v1/{path}", self.url)).json(&body)).await
    }

    /// A call of API v2 without a body.
    pub(super) async fn v2(&self, method: Method, path: &str) -> anyhow::Result<Value> {
        self.call(self.v2_request(method, path)).await
    }

    /// A call of API v2 with a JSON body.
    pub(super) async fn v2_json(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.call(self.v2_request(method, path).json(body)).await
    }

    /// A call of API v2 with a YAML body.
    pub(super) async fn v2_yaml(&self, path: &str, yaml: &'static str) -> anyhow::Result<Value> {
        let request = self.v2_request(Method::POST, path).header("content-type", "application/yaml");
        self.call(request.body(yaml)).await
    }

    fn v2_request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/api/v2/{FIRST_FLEET}/{path}", self.url);
        self.http.request(method, url).bearer_auth(&self.access_token)
    }

    async fn call(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        let response = request.send().await.context("the server did not answer")?;
        let (status, path) = (response.status(), response.url().path().to_owned());
        let body: Value = response.json().await.with_context(|| format!("{path} did not answer with JSON"))?;
        if !status.is_success() {
            bail!("{path} answered {status}: {}", body["error_message"].as_str().unwrap_or("no reason"));
        }
        Ok(body)
    }
}
