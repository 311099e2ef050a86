//! Remote commands on a real agent, with a server that says what the test wants.

use muster_core::command::{CommandEnd, CommandEvent, CommandResult};
use muster_core::ids::CommandRunUuid;
use muster_link::{CommandOrder, ToDevice, ToServer};

use crate::device::Device;
use crate::server::{Link, Server};

fn id() -> CommandRunUuid {
    "cr-1a2b-3c4d".parse().unwrap()
}

async fn order(link: &mut Link, script: String) {
    let order =
        CommandOrder { command: id(), script, user: String::new(), timeout_ms: 60_000, begin_within_ms: 60_000 };
    link.send(&ToDevice::RunCommand(order)).await;
}

/// The next that the agent says of a command, output on its way aside.
async fn said(link: &mut Link) -> CommandEvent {
    loop {
        if let ToServer::Command { command, event } = link.next().await {
            assert_eq!(command, id());
            if !matches!(event, CommandEvent::Output { .. }) {
                return event;
            }
        }
    }
}

async fn ended(link: &mut Link) -> CommandResult {
    loop {
        if let CommandEvent::Ended(result) = said(link).await {
            return result;
        }
    }
}

#[tokio::test]
async fn an_end_is_repeated_until_it_is_stored_and_the_command_runs_once() {
    let mut server = Server::start().await;
    let mut device = Device::enrolled(&mut server).await;
    device.start();
    let mut link = server.welcome().await;
    let script = device.append("lines", "ran");
    order(&mut link, script.clone()).await;
    let first = ended(&mut link).await;
    assert_eq!((first.end, first.exit_code), (CommandEnd::Exited, Some(0)));
    order(&mut link, script.clone()).await;
    assert_eq!(ended(&mut link).await, first, "asked again, it says the same");
    drop(link);
    let mut link = server.welcome().await;
    assert_eq!(ended(&mut link).await, first, "nobody has said that it is stored");
    link.send(&ToDevice::CommandStored { command: id() }).await;
    order(&mut link, script).await;
    assert_eq!(ended(&mut link).await, first, "a server of an older state hears it too");
    assert_eq!(device.lines("lines"), ["ran"]);
}

#[tokio::test]
async fn a_command_that_is_aborted_first_is_never_run() {
    let mut server = Server::start().await;
    let mut device = Device::enrolled(&mut server).await;
    device.start();
    let mut link = server.welcome().await;
    link.send(&ToDevice::AbortCommand { command: id() }).await;
    assert_eq!(ended(&mut link).await.end, CommandEnd::Aborted);
    order(&mut link, device.append("lines", "ran")).await;
    assert_eq!(ended(&mut link).await.end, CommandEnd::Aborted);
    assert_eq!(device.lines("lines"), [""; 0]);
}

#[tokio::test]
async fn an_order_that_cannot_be_read_is_refused() {
    let mut server = Server::start().await;
    let mut device = Device::enrolled(&mut server).await;
    device.start();
    let mut link = server.welcome().await;
    link.send_text(format!(r#"{{"type":"run_command","command":"{}","script":7}}"#, id())).await;
    let refused = ended(&mut link).await;
    assert_eq!((refused.end, refused.reason.code.as_str()), (CommandEnd::Refused, "bad_command"));
}
