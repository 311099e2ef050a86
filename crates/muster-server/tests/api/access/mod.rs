//! `docs/access.md`, and each of its cells against a running server.

mod attempts;
mod table;

use muster_core::access::Operation;

use crate::app::TestApp;
use crate::openapi::assert_published;
pub(crate) use attempts::Scene;
use table::WHO;
pub(crate) use table::{Cell, Who, expected};

on_both_engines!(every_cell_is_as_published);

#[test]
fn the_published_table_is_current() {
    assert_published("access.md", &table::markdown());
}

/// What is not answered but opened, so that there is no example of an answer.
pub(crate) const SOCKETS: [Operation; 5] = [
    Operation::OpenControlLink,
    Operation::OpenStream,
    Operation::OpenDeviceStream,
    Operation::OpenTerminal,
    Operation::WatchSession,
];

/// Whether every cell was tried is known when this compiles: the attempts have no
/// case for "everything else".
async fn every_cell_is_as_published(app: &TestApp) {
    let scene = Scene::set(app).await;
    let mut wrong = Vec::new();
    for operation in Operation::ALL {
        for who in WHO {
            let (expected, actual) = (expected(*operation, who), scene.attempt(*operation, who).await);
            if actual != expected {
                wrong.push(format!("{} by {who:?}: published {expected:?}, in truth {actual:?}", operation.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The statuses of an operation's cells, and those that the OpenAPI document lists for it.
pub(crate) fn documented_cells(operation: Operation) -> (Vec<u16>, Vec<u16>) {
    let status = |who: &Who| match expected(operation, *who) {
        Cell::Done(status) | Cell::Refused(status) => status,
        Cell::NotWelcome => 101,
    };
    let documented = table::documented(operation);
    let responses = documented["responses"].as_object().unwrap().keys();
    (WHO.iter().map(status).collect(), responses.map(|status| status.parse().unwrap()).collect())
}
