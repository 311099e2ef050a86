//! A PostgreSQL that goes away while it commits: whether the change was made, nobody knows.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use muster_link::ToDevice;
use muster_store::db::Location;
use muster_store::testing::Engine;
use reqwest::Url;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::app::TestApp;
use crate::device::{Link, SimulatedDevice};
use crate::orders::{Order, create};

/// Stands between a server and its PostgreSQL, and can keep the answer to one commit.
#[derive(Clone, Default)]
struct Between {
    /// The text of a statement; the next transaction that sends it is the one.
    awaited: Arc<Mutex<Option<String>>>,
}

impl Between {
    /// A server whose every connection to its database goes through here.
    async fn server() -> (TestApp, Self) {
        let between = Self::default();
        let app = TestApp::start(Engine::Postgres, |config| {
            let Location::Postgres(url) = &mut config.database else { panic!("it is not PostgreSQL") };
            *url = between.clone().listen(url);
        });
        (app.await, between)
    }

    /// Passes on what is meant for `url`; where to.
    fn listen(self, url: &str) -> String {
        let mut url = Url::parse(url).unwrap();
        let behind: SocketAddr = format!("127.0.0.1:{}", url.port().unwrap()).parse().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        tokio::spawn(async move {
            while let Ok((server, _)) = listener.accept().await {
                tokio::spawn(self.clone().pass_on(server, behind));
            }
        });
        url.into()
    }

    /// Loses the answer to the commit of the next transaction that sends `statement`, and its connection.
    fn lose_commit_of(&self, statement: &str) {
        *self.awaited.lock().unwrap() = Some(statement.to_owned());
    }

    async fn pass_on(self, mut server: TcpStream, behind: SocketAddr) {
        let mut database = TcpStream::connect(behind).await.unwrap();
        let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
        let mut is_the_one = false;
        loop {
            tokio::select! {
                read = server.read(&mut asked) => {
                    let Ok(read @ 1..) = read else { return };
                    database.write_all(&asked[..read]).await.unwrap();
                    let text = String::from_utf8_lossy(&asked[..read]);
                    is_the_one |= self.is_awaited(&text);
                    if is_the_one && text.contains("COMMIT") {
                        // It has committed when it answers; nobody hears that.
                        let answered = database.read(&mut answered).await.unwrap();
                        assert_ne!(answered, 0, "the database itself stays");
                        return;
                    }
                }
                read = database.read(&mut answered) => {
                    let Ok(read @ 1..) = read else { return };
                    server.write_all(&answered[..read]).await.unwrap();
                }
            }
        }
    }

    /// Whether that sends what is waited for; then nothing is any more.
    fn is_awaited(&self, text: &str) -> bool {
        self.awaited.lock().unwrap().take_if(|statement| text.contains(statement.as_str())).is_some()
    }
}

/// What a device can do that is told everything.
const CAPABILITIES: &[&str] = &["remote_commands", "upload_files"];

/// What is marked as sent and was not is told over the next link: the one that is, ends.
async fn told_over_the_next_link(device: &SimulatedDevice<'_>, link: Link) -> Option<ToDevice> {
    link.ended().await;
    device.connect_with(CAPABILITIES).await.next().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instruction_is_told_over_the_next_link() {
    let (app, between) = Between::server().await;
    let device = SimulatedDevice::enroll(&app, "device").await;
    let link = device.connect_with(CAPABILITIES).await;
    between.lose_commit_of(r#"UPDATE "targets" SET "dispatched_epoch""#);
    create(&app, &Order::to(&device)).await;
    let told = told_over_the_next_link(&device, link).await;
    assert!(matches!(told, Some(ToDevice::Run(_))), "{told:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_told_over_the_next_link() {
    let (app, between) = Between::server().await;
    let device = SimulatedDevice::enroll(&app, "device").await;
    let link = device.connect_with(CAPABILITIES).await;
    between.lose_commit_of(r#"UPDATE "command_targets" SET "dispatched_epoch""#);
    let filter = json!({ "filters": [{ "type": "specific_device", "operand": "is", "value": device.uuid }] });
    app.admin().post("command_runs", &json!({ "script": "true", "device_filter": filter })).await.ok(201);
    let told = told_over_the_next_link(&device, link).await;
    assert!(matches!(told, Some(ToDevice::RunCommand(_))), "{told:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_files_is_told_over_the_next_link() {
    let (app, between) = Between::server().await;
    let device = SimulatedDevice::enroll(&app, "device").await;
    let link = device.connect_with(CAPABILITIES).await;
    between.lose_commit_of(r#"UPDATE "file_requests" SET "dispatched_epoch""#);
    app.operator().post(&format!("devices/{}/logs", device.uuid), &json!({ "files_path": "/var/log" })).await.ok(200);
    let told = told_over_the_next_link(&device, link).await;
    assert!(matches!(told, Some(ToDevice::UploadFiles { .. })), "{told:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_is_told_that_nobody_knows() {
    let (app, between) = Between::server().await;
    between.lose_commit_of(r#"INSERT INTO "groups""#);
    let refusal = app.admin().post("groups", &json!({ "name": "Lab 7" })).await.v2_error();
    let text = "the database did not say whether it made the change; look before you try again";
    assert_eq!(refusal, (503, "unconfirmed".to_owned(), text.to_owned()));
    let again = app.admin().post("groups", &json!({ "name": "Lab 7" })).await.v2_error();
    assert_eq!((again.0, again.1.as_str()), (409, "conflict"), "this time it was made");
    app.stop().await;
}
