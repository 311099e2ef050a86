//! The Tag Service: its signatures, addresses, bodies and errors, and the tags that it
//! shares with Connect's API.

use std::num::NonZeroU32;
use std::time::Duration;

use muster_core::access_key::TagPolicy;
use muster_core::token::Secret;
use muster_server::access::bce_auth::Signer;
use muster_store::testing::Engine;
use reqwest::Method;
use reqwest::header::AUTHORIZATION;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::caller::answer;
use crate::device::SimulatedDevice;
use crate::signed::{TagService, tag_list};

on_both_engines!(
    refuses_what_is_not_signed_well,
    tells_every_documented_mistake,
    flags_and_paths_are_told_apart,
    skips_what_exists_and_what_is_missing,
    lists_by_absent_and_by_empty_value,
    a_tag_on_a_device_is_one_for_both_apis,
    binds_clears_and_replaces,
    a_resource_is_found_both_ways,
    tags_beyond_the_rules_are_listed_and_deleted,
);

async fn admin(app: &TestApp) -> TagService<'_> {
    TagService::new(app, Some(app.signer("admin", TagPolicy::FullControl).await))
}

async fn refuses_what_is_not_signed_well(app: &TestApp) {
    let service = admin(app).await;
    let (code, message) = TagService::new(app, None).get("/v1/tag").await.tag_error(403);
    assert_eq!((code.as_str(), message.as_str()), ("AccessDenied", "Access denied."));
    let bearer = service.request(Method::GET, "/v1/tag", "");
    let (http, request) = bearer.build_split();
    let mut request = request.unwrap();
    let signed = request.headers()[AUTHORIZATION].clone();
    let mut with = async |header: &str| {
        request.headers_mut().insert(AUTHORIZATION, header.parse().unwrap());
        let request = request.try_clone().unwrap();
        answer(reqwest::RequestBuilder::from_parts(http.clone(), request)).await
    };
    let signed = signed.to_str().unwrap();
    let other = if signed.ends_with('0') { '1' } else { '0' };
    let changed = format!("{}{other}", &signed[..signed.len() - 1]);
    let unknown = signed.replace("/ak-", "/ak+");
    for (header, status, code) in [
        ("Bearer x", 400, "InvalidHTTPAuthHeader"),
        (&*changed, 403, "SignatureDoesNotMatch"),
        (&*unknown, 403, "InvalidAccessKeyId"),
    ] {
        assert_eq!(with(header).await.tag_error(status).0, code, "{header}");
    }
    with(signed).await.ok(200);
    app.wait(Duration::from_secs(1_801)).await;
    let (code, message) = with(signed).await.tag_error(400);
    assert_eq!(code, "RequestExpired");
    assert_eq!(message, "Request has expired. Timestamp date is 2025-06-09T14:10:44Z.");
    // What was signed for another body, or with another's secret.
    let (http, request) = service.request(Method::PUT, "/v1/tag?create", "{}").build_split();
    let mut request = request.unwrap();
    request.headers_mut().insert("content-md5", "mZFLkyvTelC5g8XnyQrpOg==".parse().unwrap());
    let told = answer(reqwest::RequestBuilder::from_parts(http, request)).await;
    assert_eq!(told.tag_error(403).0, "SignatureDoesNotMatch");
    let thief = Signer::new("ak-0000000000000000000000000", Secret::received("guessed"));
    let told = TagService::new(app, Some(thief)).get("/v1/tag").await;
    assert_eq!(told.tag_error(403).0, "InvalidAccessKeyId");
}

async fn tells_every_documented_mistake(app: &TestApp) {
    let service = admin(app).await;
    let long = "x".repeat(66);
    for (body, code, message) in [
        ("nonsense", "MalformedJSON", "The JSON you provided was not well-formed."),
        ("", "MalformedJSON", "The JSON you provided was not well-formed."),
        ("[]", "InappropriateJSON", ""),
        (r#"{"tags": "a"}"#, "InappropriateJSON", ""),
        (r#"{"tags": [{"tagKey": "a"}]}"#, "InappropriateJSON", ""),
        ("{}", "TagExceptions.TagEmpty", "Tag should not be empty."),
        (&tag_list(&[]).to_string(), "TagExceptions.TagEmpty", "Tag should not be empty."),
        (&tag_list(&[("", "v")]).to_string(), "TagExceptions.TagKeyEmpty", "Tag key should not be empty."),
        (
            &tag_list(&[("a@b", "v")]).to_string(),
            "TagExceptions.TagKeyInvalid",
            "Tag key contains invalid characters or length exceeds limit.",
        ),
        (
            &tag_list(&[("a", &long)]).to_string(),
            "TagExceptions.TagValueInvalid",
            "Tag value contains invalid characters or length exceeds limit.",
        ),
    ] {
        let told = answer(service.request(Method::PUT, "/v1/tag?create", body)).await.tag_error(400);
        assert_eq!(told.0, code, "{body}");
        assert!(message.is_empty() || told.1 == message, "{body}: {}", told.1);
    }
    let many: Vec<String> = (0..201).map(|i| format!("k{i}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|key| (key.as_str(), "")).collect();
    let (code, message) = service.put("/v1/tag?create", &tag_list(&many)).await.tag_error(413);
    assert_eq!(code, "TagExceptions.LimitExceeded");
    assert_eq!(message, "Limit exceeded for current request.");
    assert_eq!(service.tags("").await, [], "it is refused whole");
    service.put("/v1/tag?create", &tag_list(&many[..200])).await.empty(200);
    assert_eq!(service.put("/v1/tag?create", &tag_list(&many[199..])).await.tag_error(413).0, code);
    let ids: Vec<String> = (0..201).map(|i| i.to_string()).collect();
    let told = service.post("/v1/tag/queryFullList", &json!({ "resourceIds": ids })).await.tag_error(400);
    assert_eq!(told.0, "InappropriateJSON");
    for body in [
        json!({ "tagKey": "k", "tagValue": "", "resources": [] }),
        json!({ "tagKey": "k", "tagValue": "", "resources": [{ "resourceId": "i" }] }),
        json!({ "tagKey": "k", "tagValue": "", "resources": [{ "resourceId": "i", "region": "bj" }] }),
        json!({ "tagKey": "k", "tagValue": "", "serviceType": "DEVICE",
                "resources": [{ "resourceId": "d-none-none", "region": "demo" }] }),
    ] {
        assert_eq!(service.post("/v1/resource", &body).await.tag_error(400).0, "InappropriateJSON", "{body}");
    }
    let large = format!(r#"{{"tags": "{}"}}"#, "x".repeat(1024 * 1024));
    let told = answer(service.request(Method::PUT, "/v1/tag?create", &large)).await;
    assert_eq!(told.tag_error(413).0, "EntityTooLarge");
}

async fn flags_and_paths_are_told_apart(app: &TestApp) {
    let service = admin(app).await;
    let tags = tag_list(&[("site", "London")]);
    for flag in ["create", "create=", "create&more=1"] {
        let done = service.put(&format!("/v1/tag?{flag}"), &tags).await;
        done.empty(200);
        assert_eq!(done.header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(done.header("content-length"), "0");
        assert_eq!(done.header("x-bce-request-id").len(), 36);
    }
    for (method, target) in [
        (Method::PUT, "/v1/tag"),
        (Method::PUT, "/v1/tag?destroy"),
        (Method::PUT, "/v1/tag?create&delete"),
        (Method::PUT, "/v1/tag?createAndAssign"),
        (Method::POST, "/v1/tag"),
        (Method::POST, "/v1/tag?create"),
        (Method::GET, "/v1/tag?delete"),
        (Method::PUT, "/v1/resource?create"),
        (Method::GET, "/v1/tag/"),
        (Method::GET, "/v1/tag/nothing"),
        (Method::GET, "/v1/resource/nothing"),
        (Method::POST, "/v1/tag/queryFullList?strongAssociation=maybe"),
        (Method::GET, "/v1/tag?tagKey=%FF"),
    ] {
        let told = answer(service.request(method.clone(), target, "{}")).await.tag_error(400);
        let expected = ("InvalidURI".to_owned(), "Could not parse the specified URI.".to_owned());
        assert_eq!(told, expected, "{method} {target}");
    }
    let told = answer(service.request(Method::DELETE, "/v1/tag", "")).await;
    assert_eq!(told.tag_error(405).0, "MethodNotAllowed");
    for target in ["/v1/tag?queryFullList", "/v1/tag?queryFullList=&strongAssociation=false", "/v1/tag/queryFullList"] {
        let found = service.post(target, &json!({ "more": 1 })).await.ok(200);
        assert_eq!(found["tagAssociationFulls"].as_array().unwrap().len(), 1, "{target}");
        let strong = if target.contains('?') {
            format!("{target}&strongAssociation=true")
        } else {
            format!("{target}?strongAssociation=true")
        };
        if !target.contains("=false") {
            assert_eq!(service.post(&strong, &json!({})).await.ok(200), json!({ "tagAssociationFulls": [] }));
        }
    }
}

async fn skips_what_exists_and_what_is_missing(app: &TestApp) {
    let service = admin(app).await;
    service.put("/v1/tag?create", &tag_list(&[("a", ""), ("a", "1")])).await.empty(200);
    service
        .put("/v1/tag?create", &tag_list(&[("a", "1"), ("b", ""), ("Default tag", ""), ("默认标签", "")]))
        .await
        .empty(200);
    let all = [("a", ""), ("a", "1"), ("b", ""), ("Default tag", ""), ("默认标签", "")];
    assert_eq!(service.tags("").await, all.map(owned));
    let gone = tag_list(&[("a", "1"), ("never", "was"), ("Default tag", ""), ("默认标签", "")]);
    service.put("/v1/tag?delete", &gone).await.empty(200);
    let left = [("a", ""), ("b", ""), ("Default tag", ""), ("默认标签", "")];
    assert_eq!(service.tags("").await, left.map(owned));
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

async fn lists_by_absent_and_by_empty_value(app: &TestApp) {
    let service = admin(app).await;
    service.put("/v1/tag?create", &tag_list(&[("a", ""), ("a", "1"), ("b", ""), ("b c", "x/y")])).await.empty(200);
    for (query, expected) in [
        ("?tagKey=a", vec![("a", ""), ("a", "1")]),
        ("?tagKey=a&tagValue=", vec![("a", "")]),
        ("?tagKey=&tagValue=", vec![("a", ""), ("b", "")]),
        ("?tagKey=b%20c&tagValue=x%2Fy", vec![("b c", "x/y")]),
        ("?tagKey=b+c", vec![]),
    ] {
        let expected: Vec<_> = expected.into_iter().map(owned).collect();
        assert_eq!(service.tags(query).await, expected, "{query}");
    }
}

/// A device as the Tag Service names it.
fn of_device(device: &SimulatedDevice<'_>) -> Value {
    json!({ "resourceId": device.uuid, "serviceType": "DEVICE", "region": "demo" })
}

async fn a_tag_on_a_device_is_one_for_both_apis(app: &TestApp) {
    let (service, device) = (admin(app).await, SimulatedDevice::enroll(app, "device").await);
    let bind = json!({ "tagKey": "site", "tagValue": "London", "resources": [of_device(&device)] });
    service.post("/v1/resource", &bind).await.empty(200);
    let path = format!("devices/{}?enrich_info=true", device.uuid);
    assert_eq!(app.viewer().get(&path).await.ok(200)["tags"], json!(["site=London"]));
    let listed = app.admin().get("/api/v2/account/tags/site=London").await.ok(200);
    assert_eq!(listed["device_count"], 1, "{listed}");
    let filter = json!({ "filters": [{ "type": "tag", "operand": "is", "value": "site=London" }] });
    let dry_run = json!({ "device_filter": filter });
    let matched = app.viewer().post("filters/dry-run", &dry_run).await.ok(200);
    assert!(matched.to_string().contains(device.uuid.as_str()), "{matched}");
    service.put("/v1/tag?delete", &tag_list(&[("site", "London")])).await.empty(200);
    assert_eq!(app.viewer().get(&path).await.ok(200)["tags"], json!([]));
    app.admin().get("/api/v2/account/tags/site=London").await.refused(404);
    // And the other way round.
    app.admin().change(device.uuid.as_str(), &json!([{ "op": "add", "path": "tags", "value": ["floor=2"] }])).await;
    let under = service.get("/v1/tag/tagResources?tagKey=floor").await.ok(200);
    let resource = json!({ "resourceType": "DEVICE", "resourceId": device.uuid, "region": "demo" });
    let expected = json!({ "tagResources": [{ "tagKey": "floor", "tagValue": "2", "resources": [resource] }] });
    assert_eq!(under, expected);
    // Whoever does not see the fleet sees no device of it, and cannot tag one.
    let neighbour = TagService::new(app, Some(app.signer("neighbour", TagPolicy::FullControl).await));
    assert_eq!(neighbour.get("/v1/tag/tagResources").await.ok(200), json!({ "tagResources": [] }));
    assert_eq!(neighbour.post("/v1/resource", &bind).await.tag_error(400).0, "InappropriateJSON");
    let viewer = TagService::new(app, Some(app.signer("viewer", TagPolicy::FullControl).await));
    assert_eq!(viewer.post("/v1/resource", &bind).await.tag_error(403).0, "AccessDenied");
    app.admin().delete("/api/v2/account/tags/floor=2").await.done();
    assert_eq!(service.tags("").await, []);
}

async fn binds_clears_and_replaces(app: &TestApp) {
    let (service, device) = (admin(app).await, SimulatedDevice::enroll(app, "device").await);
    let path = format!("devices/{}?enrich_info=true", device.uuid);
    let tags = async || app.viewer().get(&path).await.ok(200)["tags"].clone();
    let assign = |tags: &[(&str, &str)]| {
        let mut resource = of_device(&device);
        resource["associationType"] = json!("floating");
        resource["tags"] = tag_list(tags)["tags"].clone();
        json!({ "resources": [resource] })
    };
    service.post("/v1/tag?createAndAssign", &assign(&[("a", ""), ("b", "1"), ("c", "")])).await.empty(200);
    assert_eq!(tags().await, json!(["a", "b=1", "c"]));
    service.post("/v1/tag?createAndAssign", &assign(&[("c", ""), ("d", ""), ("e", "")])).await.empty(200);
    assert_eq!(tags().await, json!(["c", "d", "e"]));
    let unbind = json!({ "tagKey": "d", "tagValue": "", "serviceType": "DEVICE", "resources": [of_device(&device)] });
    for _ in 0..2 {
        service.put("/v1/resource", &unbind).await.empty(200);
    }
    assert_eq!(tags().await, json!(["c", "e"]));
    for _ in 0..2 {
        service.put("/v1/tag?deleteTagAssociation", &json!({ "resource": of_device(&device) })).await.empty(200);
        assert_eq!(tags().await, json!([]));
    }
    // Its tags stay in the catalogue.
    assert_eq!(service.tags("").await.len(), 5);
    service.post("/v1/tag?createAndAssign", &assign(&[])).await.empty(200);
    let told = service.post("/v1/tag?createAndAssign", &assign(&[("a@b", "")])).await.tag_error(400);
    assert_eq!(told.0, "TagExceptions.TagKeyInvalid");
}

async fn a_resource_is_found_both_ways(app: &TestApp) {
    let service = admin(app).await;
    let resource = |id: &str| json!({ "resourceId": id, "region": "bj" });
    let bind =
        json!({ "tagKey": "a", "tagValue": "", "serviceType": "BCC", "resources": [resource("i-1"), resource("i-2")] });
    service.post("/v1/resource", &bind).await.empty(200);
    service.put("/v1/tag?create", &tag_list(&[("b", "")])).await.empty(200);
    let found = service.post("/v1/tag/queryFullList", &json!({ "tagKey": "", "tagValue": null })).await.ok(200);
    let links = found["tagAssociationFulls"].as_array().unwrap();
    let link = |id: &str, tag: &str, n: usize| {
        let is_borne = !id.is_empty();
        json!({
            "accountId": app.house().account_id.to_string(), "resourceId": id, "resourceUuid": "",
            "region": if is_borne { "bj" } else { "" }, "serviceType": if is_borne { "BCC" } else { "" },
            "tagId": links[n]["tagId"], "tagKey": tag, "tagValue": "", "associationType": 1,
        })
    };
    assert_eq!(links, &[link("i-1", "a", 0), link("i-2", "a", 1), link("", "b", 2)]);
    assert!(links.iter().all(|link| link["tagId"].is_i64()));
    let one = json!({ "resourceIds": ["i-2"], "regions": ["bj"], "serviceTypes": ["BCC"] });
    for target in ["/v1/tag?queryFullList&strongAssociation=true", "/v1/tag/queryFullList?strongAssociation=true"] {
        let found = service.post(target, &one).await.ok(200);
        assert_eq!(found, json!({ "tagAssociationFulls": [link("i-2", "a", 1)] }), "{target}");
    }
    let elsewhere = service.get("/v1/tag/tagResources?region=gz").await.ok(200);
    assert_eq!(elsewhere, json!({ "tagResources": [] }));
    // No database keeps such a text: nothing has it.
    for text in ["tagKey=%00", "tagValue=z%00", "region=%00", "resourceType=%00"] {
        let nothing = service.get(&format!("/v1/tag/tagResources?{text}")).await.ok(200);
        assert_eq!(nothing, json!({ "tagResources": [] }), "{text}");
    }
    assert_eq!(service.get("/v1/tag?tagValue=%00").await.ok(200)["tags"], json!([]));
}

async fn tags_beyond_the_rules_are_listed_and_deleted(app: &TestApp) {
    let service = admin(app).await;
    app.admin().post("/api/v2/account/tags", &json!({ "name": "a@b=c=d" })).await.ok(201);
    assert_eq!(service.tags("").await, [owned(("a@b", "c=d"))]);
    // What is there may be named, since whoever replaces all tags of a resource must name them.
    service.put("/v1/tag?create", &tag_list(&[("a@b", "c=d")])).await.empty(200);
    service.put("/v1/tag?delete", &tag_list(&[("a@b", "c=d")])).await.empty(200);
    assert_eq!(service.tags("").await, []);
    let told = service.put("/v1/tag?create", &tag_list(&[("a@b", "c=d")])).await.tag_error(400);
    assert_eq!(told.0, "TagExceptions.TagKeyInvalid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_has_a_limit_of_its_own() {
    let app = TestApp::start(Engine::Sqlite, |config| {
        config.access_key_calls_per_minute = NonZeroU32::new(2).unwrap();
    })
    .await;
    let (one, two) = (admin(&app).await, admin(&app).await);
    for _ in 0..2 {
        one.get("/v1/tag").await.ok(200);
    }
    let refused = one.get("/v1/tag").await;
    assert_eq!(refused.tag_error(429).0, "TooManyRequests");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
    assert!(refused.header("ratelimit-policy").contains("\"access-key\";q=2;w=60"));
    two.get("/v1/tag").await.ok(200);
    app.stop().await;
}
