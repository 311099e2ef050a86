//! Update flows: created, listed, given back.

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::json;

use crate::app::TestApp;
use crate::caller::answer;
use crate::orders::{FLOW, flow};

on_both_engines!(
    creates_every_flow_of_a_document,
    lists_flows_with_their_inputs,
    gives_the_document_back_byte_for_byte,
    takes_yaml_only,
    refuses_a_wrong_document,
    what_is_elsewhere_does_not_exist,
);

const PATH: &str = "update-flows";

/// The document that the Connect API prints.
const DOCUMENTED: &str = r"flows:
  Flow-1-name:
    reboot-after-restart: false
    steps:
      - name: docker_step
        uses: connect/docker
        with:
          registry: account1
          image-path: platform-url/${{inputs.input-1-name }}/${{inputs.input-2-name }}
          image-tag: ${{ inputs.input-3-name }}
          run-options:
            restart: always
            attach: 'true'
          command: echo hello
          delete-previous-image: false
          on-failure:
            revert-all-files: true
            trigger-revert: any-step-failure
      - name: command_step
        run: echo hello
      - name: artifact_step
        uses: connect/download-artifact
        with:
          registry: account1
          artifactory-path: local-repo/file.txt
          device-path: /tmp
          on-failure:
            trigger-revert: this-step-failure
            revert-all-files: false
'on':
  workflow-dispatch:
    inputs:
      input-1-name: {}
      input-2-name: {}
      input-3-name: {}
";

async fn creates_every_flow_of_a_document(app: &TestApp) {
    let document = format!("{FLOW}{}", FLOW.replace("flows:\n", "").replace("Update", "Über/2"));
    let created = app.operator().post_yaml(PATH, &document).await.ok(201);
    let uuids: Vec<&str> =
        created["update_flows"].as_array().unwrap().iter().map(|flow| flow["uuid"].as_str().unwrap()).collect();
    let expected = json!({
        "status": "success",
        "message": "Update flows created successfully.",
        "update_flows": [{ "name": "Update", "uuid": uuids[0] }, { "name": "Über/2", "uuid": uuids[1] }],
    });
    assert_eq!(created, expected);
    let log = app.audit().await;
    let line = |uuid: &str, name: &str| {
        format!(r#"user:operator CreateUpdateFlows flow:{uuid} 127.0.0.1 {{"name":"{name}"}}"#)
    };
    assert_eq!(log, [line(uuids[0], "Update"), line(uuids[1], "Über/2")]);
}

async fn lists_flows_with_their_inputs(app: &TestApp) {
    let empty = json!({
        "status": "success", "update_flows": [], "pagination_info": { "after": null, "total": 0 },
    });
    assert_eq!(app.viewer().get(PATH).await.ok(200), empty);
    let uuid = flow(app, DOCUMENTED).await;
    let listed = json!({
        "name": "Flow-1-name", "uuid": uuid,
        "update_parameters": ["input-1-name", "input-2-name", "input-3-name"],
        "created_time": "2025-06-09 14:10:44", "cve_severity": null,
    });
    let expected = json!({
        "status": "success", "update_flows": [listed], "pagination_info": { "after": null, "total": 1 },
    });
    assert_eq!(app.viewer().get(PATH).await.ok(200), expected);
}

async fn gives_the_document_back_byte_for_byte(app: &TestApp) {
    let documents = [
        DOCUMENTED.to_owned(),
        DOCUMENTED.replace("'on'", "on"),
        FLOW.replace('\n', "\r\n"),
        format!("# ä comment   \n---\n{FLOW}\n\n"),
        format!("\u{feff}{FLOW}"),
    ];
    for document in documents {
        let uuid = flow(app, &document).await;
        let answer = app.viewer().get(&format!("{PATH}/{uuid}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/yaml"));
        assert_eq!(answer.text, document);
    }
}

async fn takes_yaml_only(app: &TestApp) {
    let post = async |content_type: Option<&str>| {
        let mut request = app.operator().request(Method::POST, PATH).body(FLOW);
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        answer(request).await
    };
    for yaml in ["application/yaml", "Application/YAML; charset=utf-8", "application/x-yaml", "text/yaml"] {
        post(Some(yaml)).await.ok(201);
    }
    for other in [None, Some("application/json"), Some("text/plain"), Some("yaml"), Some("")] {
        let (status, code, message) = post(other).await.v2_error();
        assert_eq!((status, code.as_str()), (415, "unsupported_media_type"), "{other:?}");
        assert_eq!(message, "Content-Type must be application/yaml");
    }
}

async fn refuses_a_wrong_document(app: &TestApp) {
    let wrong = |from: &str, to: &str| FLOW.replace(from, to);
    let cases = [
        (String::new(), ""),
        ("flows: [".to_owned(), ""),
        ("flows: {}".to_owned(), "flows"),
        ("{}".to_owned(), "flows"),
        (wrong("run:", "runs:"), "runs"),
        (wrong("        run: \"true\"\n", ""), "flows.Update.steps[0]"),
        (wrong("run: \"true\"", "uses: connect/nothing"), "flows.Update.steps[0]"),
        (wrong("\"true\"", "echo ${{ inputs.x }}"), "flows.Update"),
        (wrong("step 0", "\"a\\0\""), "U+0000"),
        (format!("{FLOW}# \u{0}"), "the document holds the control character U+0000"),
        (wrong("Update", "\" \""), "flows"),
    ];
    for (document, expected) in cases {
        let (status, code, message) = app.operator().post_yaml(PATH, &document).await.v2_error();
        assert_eq!((status, code.as_str()), (400, "invalid"), "{document}");
        assert!(message.contains(expected), "{document}: {message}");
    }
    let not_text = app.operator().request(Method::POST, PATH).header(CONTENT_TYPE, "application/yaml");
    let refusal = answer(not_text.body(vec![0xff, 0xfe])).await.refused(400);
    assert!(refusal.starts_with("the document is not UTF-8"), "{refusal}");
    assert_eq!(app.viewer().get(PATH).await.ok(200)["pagination_info"]["total"], 0);
}

async fn what_is_elsewhere_does_not_exist(app: &TestApp) {
    let uuid = flow(app, FLOW).await;
    app.neighbour().get(&format!("/api/v2/second/update-flows/{uuid}")).await.refused(404);
    for unknown in ["f-0000-0000", "x", "%00"] {
        app.viewer().get(&format!("{PATH}/{unknown}")).await.refused(404);
    }
    let refusal = app.viewer().get(&format!("{PATH}/f-0000-0000")).await.refused(404);
    assert_eq!(refusal, "no update flow \"f-0000-0000\" was found");
}
