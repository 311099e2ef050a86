//! What a server asks for is carried out and reported.

use muster_core::target::{RunEvent, RunOutcome};
use muster_link::{ToDevice, ToServer};
use serde_json::{Value, json};

use crate::device::{Device, until, until_exists};
use crate::server::{Link, Server, instruction, step};

const RUN: &str = "dp-1a2b-3c4d.1";

async fn linked() -> (Server, Device, Link) {
    let mut server = Server::start().await;
    let mut device = Device::enrolled(&mut server).await;
    device.start();
    let link = server.welcome().await;
    (server, device, link)
}

fn ok(name: &str) -> (String, Option<i32>) {
    (name.to_owned(), Some(0))
}

#[tokio::test]
async fn runs_three_steps_with_inputs() {
    let (_server, device, mut link) = linked().await;
    let steps = json!([
        step("one", "echo out; echo err >&2; pwd"),
        step("two", "echo \"${{ inputs.a-b }} $INPUT_A_B ${MUSTER_AGENT_SECRET-unset}\""),
        step("three", &device.append("log", "three")),
    ]);
    let mut wanted =
        instruction(RUN, &steps, &json!({"inputs": [{"name": "a-b", "default": "x"}, {"name": "c", "default": "y"}]}));
    wanted.inputs.insert("a-b".to_owned(), "filled".to_owned());
    link.instruct(&wanted).await;
    let told = link.until_over(0).await;
    assert_eq!(told.0[0], RunEvent::Accepted);
    assert_eq!(told.summary(), [ok("one"), ok("two"), ok("three")]);
    assert_eq!((told.steps()[0].stdout.as_str(), told.steps()[0].stderr.as_str()), ("out\n/\n", "err\n"));
    assert_eq!(told.steps()[1].stdout, "filled filled unset\n");
    assert_eq!(told.end(), (RunOutcome::Succeeded, ""));
    assert_eq!(device.lines("log"), ["three"]);
}

#[tokio::test]
async fn a_repeated_instruction_is_reported_again_but_not_run_again() {
    let (_server, device, mut link) = linked().await;
    let wanted = instruction(RUN, &json!([step("one", &device.append("log", "one"))]), &json!({}));
    link.instruct(&wanted).await;
    let first = link.until_over(0).await;
    link.instruct(&wanted).await;
    let second = link.until_over(0).await;
    assert_eq!(first.0, second.0);
    assert_eq!(device.lines("log"), ["one"]);
}

#[tokio::test]
async fn a_failure_restores_in_the_order_of_the_steps() {
    let (_server, device, mut link) = linked().await;
    let undo = |line: &str, trigger: &str| json!({"run": device.append("log", line), "trigger": trigger});
    let mut steps = [step("a", "true"), step("b", "true"), step("c", "exit 3"), step("d", "exit 4"), step("e", "true")];
    steps[0]["on_failure"] = undo("undo-a", "any-step-failure");
    steps[1]["on_failure"] = undo("undo-b", "this-step-failure");
    steps[2]["on_failure"] = json!({"is_ignored": true});
    steps[3]["on_failure"] = undo("undo-d", "this-step-failure");
    steps[4]["on_failure"] = undo("undo-e", "any-step-failure");
    let rollback = device.append("log", "rollback") + "; exit 9";
    link.instruct(&instruction(RUN, &json!(steps), &json!({"rollback": rollback}))).await;
    let told = link.until_over(0).await;
    let failed = |name: &str, code| (name.to_owned(), Some(code));
    assert_eq!(
        told.summary(),
        [
            ok("a"),
            ok("b"),
            failed("c", 3),
            failed("d", 4),
            ok("a (on failure)"),
            ok("d (on failure)"),
            failed("rollback", 9)
        ]
    );
    assert_eq!(told.end(), (RunOutcome::Failed, "step_failed"));
    assert_eq!(device.lines("log"), ["undo-a", "undo-d", "rollback"]);
    let indices: Vec<u32> = told.steps().iter().map(|step| step.index).collect();
    assert_eq!(indices, [0, 1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn a_step_that_takes_too_long_is_ended() {
    let (_server, _device, mut link) = linked().await;
    let slow = json!({"name": "slow", "run": "echo begun; sleep 1000", "timeout_ms": 300});
    link.instruct(&instruction(RUN, &json!([slow]), &json!({}))).await;
    let told = link.until_over(0).await;
    assert_eq!(told.end(), (RunOutcome::Failed, "step_timed_out"));
    assert_eq!((told.steps()[0].exit_code, told.steps()[0].stdout.as_str()), (None, "begun\n"));
}

#[tokio::test]
async fn an_abort_stops_the_step_and_restores() {
    let (_server, device, mut link) = linked().await;
    let script = format!("{}; {}", device.append("log", "begun"), device.await_file("never"));
    let mut first = step("one", &script);
    first["on_failure"] = json!({"run": device.append("log", "undo")});
    let steps = json!([first, step("two", &device.append("log", "two"))]);
    let wanted = instruction(RUN, &steps, &json!({"rollback": device.append("log", "rollback")}));
    link.instruct(&wanted).await;
    until_exists(&device.file("log")).await;
    link.send(&ToDevice::Abort { run: wanted.run.clone() }).await;
    link.send(&ToDevice::Abort { run: wanted.run.clone() }).await;
    let told = link.until_over(0).await;
    assert_eq!(told.summary(), [("one".to_owned(), None), ok("one (on failure)"), ok("rollback")]);
    assert_eq!(told.end(), (RunOutcome::Aborted, "aborted"));
    assert_eq!(device.lines("log"), ["begun", "undo", "rollback"]);
    link.send(&ToDevice::Abort { run: wanted.run.clone() }).await;
    assert!(matches!(link.report().await, (_, 5, RunEvent::Finished { .. })), "asked again, answered again");
}

#[tokio::test]
async fn an_abort_that_overtakes_its_instruction_holds() {
    let (_server, device, mut link) = linked().await;
    let wanted = instruction(RUN, &json!([step("one", &device.append("log", "one"))]), &json!({}));
    link.send(&ToDevice::Abort { run: wanted.run.clone() }).await;
    assert_eq!(link.until_over(0).await.end(), (RunOutcome::Aborted, "aborted"));
    link.instruct(&wanted).await;
    let told = link.until_over(0).await;
    assert_eq!((told.0.len(), told.end()), (1, (RunOutcome::Aborted, "aborted")));
    assert!(device.lines("log").is_empty());
}

#[tokio::test]
async fn what_cannot_be_carried_out_fails_before_it_begins() {
    let (_server, device, mut link) = linked().await;
    let first = || step("one", &device.append("log", "one"));
    let uses = json!({"name": "two", "uses": {"name": "connect/docker", "with": {"registry": "r", "image-path": "p", "image-tag": "t"}}, "timeout_ms": 1});
    let later = json!({"name": "two", "uses": {"name": "connect/later", "with": {}}, "timeout_ms": 1});
    let cases =
        [(uses, "artifact_missing"), (later, "unsupported_step"), (step("two", "${{ inputs.gone }}"), "bad_flow")];
    for (i, (bad, code)) in cases.into_iter().enumerate() {
        link.instruct(&instruction(&format!("dp-1a2b-3c4d.{}", i + 1), &json!([first(), bad]), &json!({}))).await;
        let told = link.until_over(0).await;
        assert_eq!((&told.0[0], told.0.len(), told.end()), (&RunEvent::Accepted, 2, (RunOutcome::Failed, code)));
        let Some(RunEvent::Finished { reason, .. }) = told.0.last() else { panic!("no end") };
        assert!(reason.text.contains("\"two\""), "{}", reason.text);
    }
    let later: Value = json!({"type": "run", "run": "dp-1a2b-3c4d.9", "flow": {"name": "f", "steps": [{"dance": 1}]}});
    link.send_text(later.to_string()).await;
    let told = link.until_over(0).await;
    assert_eq!((told.0.len(), told.end()), (1, (RunOutcome::Failed, "bad_flow")));
    assert!(device.lines("log").is_empty());
}

#[tokio::test]
async fn runs_take_turns() {
    let (_server, device, mut link) = linked().await;
    let first = format!("{}; {}; {}", device.append("log", "a1"), device.await_file("go"), device.append("log", "a2"));
    link.instruct(&instruction("dp-aaaa-aaaa.1", &json!([step("one", &first)]), &json!({}))).await;
    link.instruct(&instruction("dp-bbbb-bbbb.1", &json!([step("one", &device.append("log", "b"))]), &json!({}))).await;
    until_exists(&device.file("log")).await;
    device.touch("go");
    for _ in 0..2 {
        assert_eq!(link.until_over(0).await.end(), (RunOutcome::Succeeded, ""));
    }
    assert_eq!(device.lines("log"), ["a1", "a2", "b"]);
}

#[tokio::test]
async fn reboots_once_after_the_last_report_is_acknowledged() {
    let (mut server, mut device, mut link) = linked().await;
    let wanted = instruction(RUN, &json!([step("one", "true")]), &json!({"is_reboot_wanted": true}));
    link.instruct(&wanted).await;
    for seq in 1..=3 {
        assert_eq!(link.report().await.1, seq);
        assert!(device.lines("reboots").is_empty());
    }
    link.ack(&wanted.run, 3).await;
    until("the device reboots", || device.lines("reboots") == ["now"]).await;
    device.kill();
    device.start();
    let mut link = server.welcome().await;
    link.instruct(&instruction("dp-1a2b-3c4d.2", &json!([step("one", "true")]), &json!({}))).await;
    assert_eq!(link.until_over(0).await.end(), (RunOutcome::Succeeded, ""));
    assert_eq!(device.lines("reboots"), ["now"]);
}

#[tokio::test]
async fn keepalives_tell_how_the_device_is() {
    let (_server, _device, mut link) = linked().await;
    let ToServer::Keepalive { metrics, facts } = link.next().await else { panic!("no keepalive") };
    assert!(metrics.ram_percent.is_some() && metrics.disk_size_bytes > metrics.disk_used_bytes, "{metrics:?}");
    assert_eq!(facts, None, "the server has them from the handshake");
}
