//! Whatever ends, the run goes on, and no step runs twice.

use muster_core::target::{RunEvent, RunOutcome};
use nix::sys::signal::{Signal, kill};
use serde_json::json;

use crate::device::{Device, pid, until, until_exists};
use crate::server::{Server, instruction, step};

const RUN: &str = "dp-1a2b-3c4d.1";

/// Three steps, of which the second waits for the file `go`.
fn waiting_run(device: &Device) -> muster_link::Instruction {
    let second = format!(
        "{}; (echo $PPID; echo $$) > {}; {}; echo told",
        device.append("log", "two"),
        device.file("runner").display(),
        device.await_file("go")
    );
    let steps = json!([
        step("one", &device.append("log", "one")),
        step("two", &second),
        step("three", &device.append("log", "three")),
    ]);
    instruction(RUN, &steps, &json!({}))
}

#[tokio::test]
async fn a_killed_agent_takes_its_run_up_again() {
    let mut server = Server::start().await;
    let mut device = Device::enrolled(&mut server).await;
    device.start();
    let mut link = server.welcome().await;
    link.instruct(&waiting_run(&device)).await;
    until_exists(&device.file("runner")).await;
    device.kill();
    drop(link);
    device.start();
    let mut link = server.welcome().await;
    let (run, seq, event) = link.report().await;
    assert_eq!((seq, event), (1, RunEvent::Accepted));
    link.ack(&run, seq).await;
    device.touch("go");
    let told = link.until_over(1).await;
    assert_eq!(told.end(), (RunOutcome::Succeeded, ""));
    assert_eq!(told.steps()[1].stdout, "told\n");
    assert_eq!(device.lines("log"), ["one", "two", "three"]);
}

#[tokio::test]
async fn a_step_that_ends_while_no_agent_runs_is_reported_by_the_next() {
    let mut server = Server::start().await;
    let mut device = Device::enrolled(&mut server).await;
    device.start();
    let mut link = server.welcome().await;
    link.instruct(&waiting_run(&device)).await;
    until_exists(&device.file("runner")).await;
    device.terminate().await;
    link.gone().await;
    device.touch("go");
    until_exists(&device.state().join(format!("runs/{RUN}/step-1/result.json"))).await;
    device.start();
    let told = server.welcome().await.until_over(0).await;
    assert_eq!(told.end(), (RunOutcome::Succeeded, ""));
    assert_eq!(device.lines("log"), ["one", "two", "three"]);
    let leftovers = std::fs::read_dir(device.state().join("runs").join(RUN)).unwrap();
    assert_eq!(leftovers.count(), 2, "the instruction and the journal");
}

#[tokio::test]
async fn a_step_whose_runner_was_killed_is_interrupted_and_not_run_again() {
    let mut server = Server::start().await;
    let mut device = Device::enrolled(&mut server).await;
    device.start();
    let mut link = server.welcome().await;
    link.instruct(&waiting_run(&device)).await;
    until("runner and command are known", || device.lines("runner").len() == 2).await;
    device.kill();
    // First the runner, or it would see its command's end: a power cut shows neither to anyone.
    for process in device.lines("runner") {
        kill(pid(process.parse().unwrap()), Signal::SIGKILL).unwrap();
    }
    device.start();
    let told = server.welcome().await.until_over(0).await;
    assert_eq!(told.end(), (RunOutcome::Failed, "step_interrupted"));
    assert_eq!(told.steps()[1].exit_code, None);
    assert!(told.steps()[1].stderr.contains("not started again"), "{}", told.steps()[1].stderr);
    assert_eq!(device.lines("log"), ["one", "two"]);
}

#[tokio::test]
async fn an_abort_reaches_a_step_that_an_earlier_agent_started() {
    let mut server = Server::start().await;
    let mut device = Device::enrolled(&mut server).await;
    device.start();
    let mut link = server.welcome().await;
    let wanted = waiting_run(&device);
    link.instruct(&wanted).await;
    until_exists(&device.file("runner")).await;
    device.kill();
    device.start();
    let mut link = server.welcome().await;
    link.send(&muster_link::ToDevice::Abort { run: wanted.run }).await;
    let told = link.until_over(0).await;
    assert_eq!(told.end(), (RunOutcome::Aborted, "aborted"));
    assert_eq!(device.lines("log"), ["one", "two"]);
}

#[tokio::test]
async fn a_server_that_goes_and_comes_back_misses_nothing() {
    let mut server = Server::start().await;
    let mut device = Device::enrolled(&mut server).await;
    device.start();
    let mut link = server.welcome().await;
    link.instruct(&waiting_run(&device)).await;
    assert_eq!(link.report().await.1, 1);
    assert_eq!(link.report().await.1, 2);
    drop(link);
    device.touch("go");
    // Neither report was acknowledged, so both come again.
    let mut link = server.welcome().await;
    let told = link.until_over(0).await;
    assert_eq!((told.0.len(), told.end()), (5, (RunOutcome::Succeeded, "")));
    link.taken().await;
    drop(link);
    let second = instruction("dp-1a2b-3c4d.2", &json!([step("one", "true")]), &json!({}));
    drop(server.welcome().await);
    let mut link = server.welcome().await;
    link.instruct(&second).await;
    assert_eq!(link.until_over(0).await.0.len(), 3, "what was acknowledged is not told again");
    assert_eq!(device.lines("log"), ["one", "two", "three"]);
}

#[tokio::test]
async fn a_server_that_falls_silent_is_dialled_again() {
    let mut server = Server::start().await;
    let mut device = Device::enrolled(&mut server).await;
    device.start();
    // Held open, but nobody reads it: no pong ever comes.
    let _silent = server.welcome().await;
    server.welcome().await;
}
