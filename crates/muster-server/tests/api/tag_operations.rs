//! What the Tag Service does, behind its face: the same tags as Connect's API has.

use futures_util::TryStreamExt;
use futures_util::future::join_all;
use muster_core::access::Operation;
use muster_core::names::{Region, ResourceId, ResourceUuid, ServiceType, Tag};
use muster_core::resource::{Assignment, DEVICE, Resource};
use muster_core::token::TokenKind;
use muster_server::access::{Caller as Proven, PermittedAccount};
use muster_server::error::OpError;
use muster_server::fleet::tag_links::{self, LinkFilter};
use muster_server::fleet::{resources, tags};
use muster_store::tags::TagFilter;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::caller::Caller;
use crate::device::SimulatedDevice;

on_both_engines!(
    with: |config| config.account_tags_max = 5;
    tags_that_exist_are_skipped_and_the_quota_is_refused_whole,
    connects_own_tags_count_and_are_not_bounded,
    a_race_for_the_last_places_does_not_pass_the_quota,
    deletion_skips_what_is_missing_and_the_default_tag,
    what_one_api_binds_the_other_sees,
    what_one_api_deletes_the_other_does_not_see,
    an_assignment_replaces_all_tags,
    assignments_at_once_leave_one_of_them,
    bindings_and_deletions_at_once_leave_no_half,
    a_device_is_changed_only_where_the_caller_may,
    too_much_at_once_is_refused,
    changes_are_audited,
);

pub(crate) fn tag(key: &str, value: &str) -> Tag {
    Tag { key: key.to_owned(), value: value.to_owned() }
}

pub(crate) fn resource(kind: &str, region: &str, id: &str) -> Resource {
    Resource {
        service_type: ServiceType::parse(kind).unwrap(),
        region: Region::parse(region).unwrap(),
        id: ResourceId::parse(id).unwrap(),
    }
}

pub(crate) fn device(region: &str, device: &SimulatedDevice<'_>) -> Resource {
    resource(DEVICE, region, device.uuid.as_str())
}

pub(crate) fn assignment(resource: &Resource, tags: &[Tag]) -> Assignment {
    Assignment { resource: resource.clone(), uuid: ResourceUuid::default(), tags: tags.to_vec() }
}

/// The proof that a caller may change tags, as a face gets it.
pub(crate) async fn permitted(app: &TestApp, caller: &Caller<'_>) -> PermittedAccount {
    let source = [192, 0, 2, 9].into();
    let proven = Proven::from_token(app.store(), TokenKind::Access, &caller.keys.access, source).await.unwrap();
    proven.account(app.store().read(), Operation::ListTags).await.unwrap()
}

async fn admin(app: &TestApp) -> PermittedAccount {
    permitted(app, &app.admin()).await
}

/// Every tag, by name.
pub(crate) async fn names(app: &TestApp, permitted: &PermittedAccount, filter: TagFilter) -> Vec<String> {
    let list = tag_links::tags(app.app(), permitted, filter).await.unwrap();
    let rows: Vec<_> = list.try_collect().await.unwrap();
    rows.into_iter().flatten().map(|row| row.tag.to_string()).collect()
}

/// What bears each tag that matches.
pub(crate) async fn links(
    app: &TestApp,
    permitted: &PermittedAccount,
    filter: LinkFilter,
) -> Vec<(String, Vec<String>)> {
    let list = tag_links::links(app.app(), permitted, filter).await.unwrap();
    let parts: Vec<_> = list.try_collect().await.unwrap();
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for part in parts {
        let name = part.tag.tag.to_string();
        let bearers = part.bearers.iter().map(|of| format!("{}/{}/{}", of.service_type, of.region, of.resource_id));
        match all.last_mut().filter(|(last, _)| *last == name) {
            Some((_, more)) => more.extend(bearers),
            None => all.push((name, bearers.collect())),
        }
    }
    all
}

async fn all_links(app: &TestApp) -> Vec<(String, Vec<String>)> {
    links(app, &admin(app).await, LinkFilter::default()).await
}

async fn all_names(app: &TestApp) -> Vec<String> {
    names(app, &admin(app).await, TagFilter::default()).await
}

async fn create(app: &TestApp, tags: &[Tag]) -> Result<(), OpError> {
    tags::create_all(app.app(), &admin(app).await, tags).await
}

async fn tags_that_exist_are_skipped_and_the_quota_is_refused_whole(app: &TestApp) {
    create(app, &[tag("site", "London"), tag("red", ""), tag("red", "")]).await.unwrap();
    create(app, &[tag("red", ""), tag("site", ""), tag("site", "Leeds")]).await.unwrap();
    let made = ["site=London", "red", "site", "site=Leeds"];
    assert_eq!(all_names(app).await, made);
    let refused = create(app, &[tag("a", ""), tag("b", "")]).await;
    assert!(matches!(refused, Err(OpError::TagQuota { tags_max: 5 })), "{refused:?}");
    let our = resource("BCC", "bj", "i-1");
    let assigned = [assignment(&our, &[tag("red", ""), tag("a", ""), tag("b", "")])];
    let refused = resources::assign(app.app(), &admin(app).await, &assigned).await;
    assert!(matches!(refused, Err(OpError::TagQuota { .. })), "{refused:?}");
    assert_eq!(all_names(app).await, made, "none of them is made");
    resources::bind(app.app(), &admin(app).await, &tag("last", ""), std::slice::from_ref(&our)).await.unwrap();
    let refused = resources::bind(app.app(), &admin(app).await, &tag("more", ""), std::slice::from_ref(&our)).await;
    assert!(matches!(refused, Err(OpError::TagQuota { .. })), "{refused:?}");
    create(app, &[tag("red", ""), tag("last", "")]).await.unwrap();
    let unnameable = create(app, &[tag("red", ""), tag("a=b", "")]).await.unwrap_err().to_string();
    assert_eq!(unnameable, "tags[1]: \"a=b\" is no tag");
}

async fn connects_own_tags_count_and_are_not_bounded(app: &TestApp) {
    for number in 0..7 {
        app.operator().post("/api/v2/account/tags", &json!({ "name": format!("t{number}") })).await.ok(201);
    }
    create(app, &[tag("t3", "")]).await.unwrap();
    assert!(matches!(create(app, &[tag("t7", "")]).await, Err(OpError::TagQuota { .. })));
    assert_eq!(all_names(app).await.len(), 7);
    let other = permitted(app, &app.stranger()).await;
    tags::create_all(app.app(), &other, &[tag("theirs", "")]).await.unwrap();
    assert_eq!(names(app, &other, TagFilter::default()).await, ["theirs"], "each account has its own");
}

async fn a_race_for_the_last_places_does_not_pass_the_quota(app: &TestApp) {
    let by = &admin(app).await;
    let made = join_all((0..8).map(async |number| {
        let two = [tag(&format!("a{number}"), ""), tag(&format!("b{number}"), "")];
        match tags::create_all(app.app(), by, &two).await {
            Ok(()) => true,
            Err(OpError::TagQuota { .. }) => false,
            Err(other) => panic!("{other:?}"),
        }
    }));
    assert_eq!(made.await.into_iter().filter(|is_made| *is_made).count(), 2);
    assert_eq!(all_names(app).await.len(), 4);
}

async fn deletion_skips_what_is_missing_and_the_default_tag(app: &TestApp) {
    let (english, chinese) = (tag("Default tag", ""), tag("默认标签", ""));
    create(app, &[english.clone(), chinese.clone(), tag("Default tag", "x"), tag("red", "")]).await.unwrap();
    let our = resource("BCC", "bj", "i-1");
    for tag in [&english, &tag("red", "")] {
        resources::bind(app.app(), &admin(app).await, tag, std::slice::from_ref(&our)).await.unwrap();
    }
    let doomed = [english, chinese, tag("Default tag", "x"), tag("red", ""), tag("missing", ""), tag("a=b", "")];
    for _ in 0..2 {
        tags::delete_all(app.app(), &admin(app).await, &doomed).await.unwrap();
        let left = vec![("Default tag".to_owned(), vec!["BCC/bj/i-1".to_owned()]), ("默认标签".to_owned(), vec![])];
        assert_eq!(all_links(app).await, left);
    }
}

/// The tags of a device, and how many devices and others bear the tag, as API v2 shows them.
async fn shown(app: &TestApp, device: &SimulatedDevice<'_>, name: &str) -> (Value, Value, Value) {
    let one = app.admin().get(&format!("/api/v2/account/tags/{name}")).await.ok(200);
    (device.seen().await["tags"].clone(), one["device_count"].clone(), one["resource_count"].clone())
}

/// How many devices API v1 takes a tag off.
async fn v1_untag(app: &TestApp, name: &str) -> crate::caller::Answer {
    let body = json!({
        "user_token": app.admin().keys.user.expose(), "tag_name": name,
        "device_filter": { "project": { "name": "Demo fleet" }, "groups": [], "filters": [] },
    });
    app.admin().v1_delete("/v1/device_tags", &body).await
}

async fn what_one_api_binds_the_other_sees(app: &TestApp) {
    let lamp = SimulatedDevice::enroll(app, "lamp").await;
    let both = [device("demo", &lamp), resource("BCC", "bj", "i-1")];
    let by = &admin(app).await;
    resources::bind(app.app(), by, &tag("site", "London"), &both).await.unwrap();
    resources::bind(app.app(), by, &tag("site", "London"), &both).await.unwrap();
    assert_eq!(shown(app, &lamp, "site=London").await, (json!(["site=London"]), json!(1), json!(1)));
    let filter =
        json!({ "device_filter": { "filters": [{ "type": "tag", "operand": "is", "value": "site=London" }] } });
    let matched = app.viewer().post("filters/dry-run", &filter).await.ok(200);
    assert_eq!(matched["matching"], 1, "{matched}");
    app.admin().change(lamp.uuid.as_str(), &json!([{ "op": "add", "path": "tags", "value": ["=odd", "red"] }])).await;
    let device_name = format!("DEVICE/demo/{}", lamp.uuid);
    let borne = [
        ("site=London".to_owned(), vec![device_name.clone(), "BCC/bj/i-1".to_owned()]),
        ("=odd".to_owned(), vec![device_name.clone()]),
        ("red".to_owned(), vec![device_name]),
    ];
    assert_eq!(all_links(app).await, borne);
    resources::unbind(app.app(), by, &tag("site", "London"), &both[..1]).await.unwrap();
    assert_eq!(shown(app, &lamp, "site=London").await, (json!(["=odd", "red"]), json!(0), json!(1)));
    for resource in &both {
        resources::clear(app.app(), by, resource).await.unwrap();
    }
    assert_eq!(shown(app, &lamp, "site=London").await, (json!([]), json!(0), json!(0)));
    for missing in [tag("site", "Rome"), tag("a=b", "")] {
        resources::unbind(app.app(), by, &missing, &both).await.unwrap();
    }
    assert_eq!(all_names(app).await, ["site=London", "=odd", "red"], "nothing is made by taking off");
}

async fn what_one_api_deletes_the_other_does_not_see(app: &TestApp) {
    let lamp = SimulatedDevice::enroll(app, "lamp").await;
    let both = [device("demo", &lamp), resource("BCC", "bj", "i-1")];
    let by = &admin(app).await;
    for name in ["red", "blue", "green", "new"] {
        resources::bind(app.app(), by, &tag(name, ""), &both).await.unwrap();
    }
    tags::delete_all(app.app(), by, &[tag("red", "")]).await.unwrap();
    assert_eq!(v1_untag(app, "red").await.v1_error(), "tag_name: no tag is called \"red\"");
    assert_eq!(lamp.seen().await["tags"], json!(["blue", "green", "new"]));
    v1_untag(app, "blue").await.ok(200);
    app.admin().delete("/api/v2/account/tags/green").await.empty(204);
    app.admin().patch("/api/v2/account/tags/new", &json!({ "name": "newer=1" })).await.ok(200);
    let (here, there) = (both[0].to_string(), "BCC/bj/i-1".to_owned());
    let left = vec![("blue".to_owned(), vec![there.clone()]), ("newer=1".to_owned(), vec![here, there])];
    assert_eq!(all_links(app).await, left);
    let newer = TagFilter { key: Some("newer".to_owned()), value: Some("1".to_owned()) };
    assert_eq!(names(app, by, newer).await, ["newer=1"], "links and halves follow a new name");
}

async fn an_assignment_replaces_all_tags(app: &TestApp) {
    let lamp = SimulatedDevice::enroll(app, "lamp").await;
    let (lamp_name, our) = (device("demo", &lamp), resource("BCC", "bj", "i-1"));
    let by = &admin(app).await;
    let (red, blue, green) = (tag("red", ""), tag("blue", ""), tag("green", ""));
    let first = [
        assignment(&lamp_name, &[red.clone(), blue.clone(), red.clone()]),
        Assignment { uuid: ResourceUuid::parse("long").unwrap(), ..assignment(&our, std::slice::from_ref(&blue)) },
    ];
    resources::assign(app.app(), by, &first).await.unwrap();
    assert_eq!(lamp.seen().await["tags"], json!(["blue", "red"]));
    let overruled = assignment(&lamp_name, &[tag("never", "made")]);
    let second = [overruled, assignment(&our, &[green.clone(), blue]), assignment(&lamp_name, &[green])];
    resources::assign(app.app(), by, &second).await.unwrap();
    assert_eq!(lamp.seen().await["tags"], json!(["green"]), "the later one counts");
    let (here, there) = (lamp_name.to_string(), our.to_string());
    let borne = [("blue", vec![there.clone()]), ("red", vec![]), ("green", vec![here, there])];
    assert_eq!(all_links(app).await, borne.map(|(name, bearers)| (name.to_owned(), bearers)));
    let list = tag_links::links(app.app(), by, LinkFilter { only_borne: true, ..LinkFilter::default() }).await.unwrap();
    let parts: Vec<_> = list.try_collect().await.unwrap();
    let uuids: Vec<_> = parts.iter().flat_map(|part| &part.bearers).map(|of| of.resource_uuid.as_str()).collect();
    assert_eq!(uuids, ["long", lamp.uuid.as_str(), "long"], "a second name is kept");
    resources::assign(app.app(), by, &[assignment(&our, &[]), assignment(&lamp_name, &[])]).await.unwrap();
    assert!(all_links(app).await.iter().all(|(_, bearers)| bearers.is_empty()));
    let unknown = assignment(&resource(DEVICE, "second", lamp.uuid.as_str()), std::slice::from_ref(&red));
    let refused = resources::assign(app.app(), by, &[assignment(&our, &[red]), unknown]).await.unwrap_err().to_string();
    let problem = format!("no device of that region is called \"{}\"", lamp.uuid);
    assert_eq!(refused, format!("resources[1].resourceId: {problem}"));
    assert!(all_links(app).await.iter().all(|(_, bearers)| bearers.is_empty()), "nothing was done");
}

async fn assignments_at_once_leave_one_of_them(app: &TestApp) {
    let lamp = SimulatedDevice::enroll(app, "lamp").await;
    let both = [device("demo", &lamp), resource("BCC", "bj", "i-1")];
    let by = &admin(app).await;
    join_all((0..5).map(async |number| {
        let own = [tag(&format!("t{number}"), "")];
        resources::assign(app.app(), by, &both.clone().map(|resource| assignment(&resource, &own))).await.unwrap();
    }))
    .await;
    let borne: Vec<_> = all_links(app).await.into_iter().filter(|(_, bearers)| !bearers.is_empty()).collect();
    assert_eq!(borne.len(), 1, "{borne:?}");
    assert_eq!(borne[0].1, both.map(|resource| resource.to_string()));
}

async fn bindings_and_deletions_at_once_leave_no_half(app: &TestApp) {
    let lamp = SimulatedDevice::enroll(app, "lamp").await;
    let both = [device("demo", &lamp), resource("BCC", "bj", "i-1")];
    let (by, red) = (&admin(app).await, tag("red", ""));
    join_all((0..8).map(async |number| match number % 2 {
        0 => resources::bind(app.app(), by, &red, &both).await.unwrap(),
        _ => tags::delete_all(app.app(), by, std::slice::from_ref(&red)).await.unwrap(),
    }))
    .await;
    match all_links(app).await.as_slice() {
        [] => assert_eq!(lamp.seen().await["tags"], json!([])),
        [(name, bearers)] => {
            assert_eq!((name.as_str(), bearers.len(), lamp.seen().await["tags"].clone()), ("red", 2, json!(["red"])));
        }
        more => panic!("{more:?}"),
    }
}

async fn a_device_is_changed_only_where_the_caller_may(app: &TestApp) {
    let lamp = SimulatedDevice::enroll(app, "lamp").await;
    let lamps = [device("demo", &lamp)];
    let (viewer, operator, neighbour, stranger) = (
        permitted(app, &app.viewer()).await,
        permitted(app, &app.operator()).await,
        permitted(app, &app.neighbour()).await,
        permitted(app, &app.stranger()).await,
    );
    let (red, blue) = (tag("red", ""), [assignment(&lamps[0], &[tag("blue", "")])]);
    resources::bind(app.app(), &operator, &red, &lamps).await.unwrap();
    for refused in [
        resources::bind(app.app(), &viewer, &red, &lamps).await,
        resources::unbind(app.app(), &viewer, &red, &lamps).await,
        resources::clear(app.app(), &viewer, &lamps[0]).await,
        resources::assign(app.app(), &viewer, &blue).await,
    ] {
        assert!(matches!(refused, Err(OpError::Forbidden(_))), "{refused:?}");
    }
    for who in [&neighbour, &stranger] {
        for refused in
            [resources::bind(app.app(), who, &red, &lamps).await, resources::assign(app.app(), who, &blue).await]
        {
            let unknown = format!("resources[0].resourceId: no device of that region is called \"{}\"", lamp.uuid);
            assert_eq!(refused.unwrap_err().to_string(), unknown);
        }
        resources::unbind(app.app(), who, &red, &lamps).await.unwrap();
        resources::clear(app.app(), who, &lamps[0]).await.unwrap();
    }
    assert_eq!(lamp.seen().await["tags"], json!(["red"]));
    let nobodys = [resource(DEVICE, "demo", "d-0000-0000"), resource(DEVICE, "demo", "no uuid")];
    for nobody in &nobodys {
        resources::clear(app.app(), &operator, nobody).await.unwrap();
        let refused = resources::bind(app.app(), &operator, &red, std::slice::from_ref(nobody)).await;
        assert!(matches!(refused, Err(OpError::Invalid(_))), "{refused:?}");
    }
    resources::clear(app.app(), &operator, &lamps[0]).await.unwrap();
    assert_eq!(lamp.seen().await["tags"], json!([]));
}

async fn too_much_at_once_is_refused(app: &TestApp) {
    let (by, red) = (&admin(app).await, tag("red", ""));
    let many = vec![resource("BCC", "bj", "i-1"); 1_001];
    let tags = vec![red.clone(); 1_001];
    let full = vec![assignment(&many[0], &tags[..1_000]); 11];
    let long = vec!["x".to_owned(); 201];
    let query = LinkFilter { resource_ids: long, ..LinkFilter::default() };
    let more = "has 1001 items, at most 1000 are allowed";
    for (refused, expected) in [
        (tags::create_all(app.app(), by, &tags).await, format!("tags: {more}")),
        (tags::delete_all(app.app(), by, &tags).await, format!("tags: {more}")),
        (resources::bind(app.app(), by, &red, &many).await, format!("resources: {more}")),
        (resources::unbind(app.app(), by, &red, &many).await, format!("resources: {more}")),
        (resources::assign(app.app(), by, &vec![assignment(&many[0], &[]); 1_001]).await, format!("resources: {more}")),
        (resources::assign(app.app(), by, &[assignment(&many[0], &tags)]).await, format!("resources[0].tags: {more}")),
        (
            resources::assign(app.app(), by, &full).await,
            "resources: hold 11000 tags together, at most 10000 are allowed".to_owned(),
        ),
        (
            tag_links::links(app.app(), by, query).await.map(drop),
            "resourceIds: has 201 items, at most 200 are allowed".to_owned(),
        ),
    ] {
        assert_eq!(refused.unwrap_err().to_string(), expected);
    }
}

async fn changes_are_audited(app: &TestApp) {
    let (by, our) = (&admin(app).await, resource("BCC", "bj", "i-1"));
    let before = app.audit().await.len();
    create(app, &[tag("red", ""), tag("blue", "")]).await.unwrap();
    create(app, &[tag("red", "")]).await.unwrap();
    resources::bind(app.app(), by, &tag("red", ""), std::slice::from_ref(&our)).await.unwrap();
    resources::unbind(app.app(), by, &tag("red", ""), std::slice::from_ref(&our)).await.unwrap();
    resources::assign(app.app(), by, &[assignment(&our, &[tag("blue", ""), tag("new", "")])]).await.unwrap();
    resources::clear(app.app(), by, &our).await.unwrap();
    tags::delete_all(app.app(), by, &[tag("red", ""), tag("none", "")]).await.unwrap();
    let expected = [
        r#"tags 192.0.2.9 {"after":{"tags":["red","blue"]}}"#,
        r#"tag:red 192.0.2.9 {"after":{"tags":[]}}"#,
        r#"tag:red 192.0.2.9 {"after":{"resources":["BCC/bj/i-1"]},"new":1}"#,
        r#"tag:red 192.0.2.9 {"before":{"resources":["BCC/bj/i-1"]},"removed":1}"#,
        r#"resource:BCC/bj/i-1 192.0.2.9 {"after":{"BCC/bj/i-1":{"tags":["blue","new"]}},"before":{"BCC/bj/i-1":{"tags":[]}}}"#,
        r#"resource:BCC/bj/i-1 192.0.2.9 {"after":{"tags":[]},"before":{"tags":["blue","new"]}}"#,
        r#"tags 192.0.2.9 {"before":{"tags":["red"]},"devices":0,"resources":0}"#,
    ];
    let log = app.audit().await;
    assert_eq!(log[before..], expected.map(|line| format!("user:admin ListTags {line}")));
}
