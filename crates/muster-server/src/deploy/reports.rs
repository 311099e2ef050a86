//! Reports of devices: stored many at a time, acknowledged only when they are.
//!
//! Devices report one by one, but a commit costs as much for one report as for a
//! hundred. So the reports that have come in while the last commit ran share the
//! next one.

use std::sync::Arc;

use muster_store::command_targets::CommandReport;
use muster_store::targets::{Report, ReportOutcome};
use muster_store::{Store, Tx};
use tokio::sync::{mpsc, oneshot};

/// Most reports of one commit.
const BATCH_MAX: usize = 256;
/// Most reports that wait for a commit; more wait in their links.
const QUEUE_MAX: usize = 4_096;

/// What a device reports on.
#[derive(Clone, Debug, PartialEq)]
pub enum Reported {
    /// A run of a deployment.
    Run(Report),
    /// A remote command.
    Command(CommandReport),
}

impl Reported {
    async fn store(&self, tx: &Tx) -> muster_store::Result<ReportOutcome> {
        match self {
            Self::Run(report) => tx.store_report(report).await,
            Self::Command(report) => tx.store_command_report(report).await,
        }
    }
}

struct Submitted {
    report: Reported,
    answer: oneshot::Sender<ReportOutcome>,
}

/// Where links hand in reports.
#[derive(Clone)]
pub struct ReportSink(mpsc::Sender<Submitted>);

/// The other end of a [`ReportSink`].
pub struct ReportQueue(mpsc::Receiver<Submitted>);

impl ReportSink {
    /// A sink and the queue behind it.
    pub fn new() -> (Self, ReportQueue) {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        (Self(sender), ReportQueue(receiver))
    }

    /// Stores a report; answers once it is committed. `None` when it could not be
    /// stored: the device must send it again.
    pub async fn store(&self, report: Reported) -> Option<ReportOutcome> {
        let (answer, outcome) = oneshot::channel();
        self.0.send(Submitted { report, answer }).await.ok()?;
        outcome.await.ok()
    }
}

impl ReportQueue {
    /// Stores what comes until every sink is gone.
    pub async fn run(mut self, store: Store) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while self.0.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let (reports, answers): (Vec<_>, Vec<_>) =
                batch.drain(..).map(|submitted| (submitted.report, submitted.answer)).unzip();
            let outcomes = store_all(&store, reports).await;
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                if let Some(outcome) = outcome {
                    // A link that has gone no longer wants to know.
                    let _ = answer.send(outcome);
                }
            }
        }
    }
}

async fn store_all(store: &Store, reports: Vec<Reported>) -> Vec<Option<ReportOutcome>> {
    let reports: Arc<[Reported]> = reports.into();
    match store_in_one(store, reports.clone()).await {
        Ok(outcomes) => outcomes.into_iter().map(Some).collect(),
        Err(error) if reports.len() > 1 => {
            tracing::warn!(%error, reports = reports.len(), "storing reports one by one");
            let mut outcomes = Vec::with_capacity(reports.len());
            for report in reports.iter() {
                // One report that cannot be stored must not hold back the others.
                outcomes.push(store_in_one(store, [report.clone()].into()).await.ok().and_then(|mut one| one.pop()));
            }
            outcomes
        }
        Err(error) => {
            tracing::error!(%error, "a report could not be stored; the device will send it again");
            vec![None]
        }
    }
}

async fn store_in_one(store: &Store, reports: Arc<[Reported]>) -> muster_store::Result<Vec<ReportOutcome>> {
    let reports = &reports;
    store
        .write(|tx| async move {
            let mut outcomes = Vec::with_capacity(reports.len());
            for report in reports.iter() {
                outcomes.push(report.store(&tx).await?);
            }
            Ok(outcomes)
        })
        .await
}
