//! What a store sends to its database.

use std::sync::{Arc, Mutex, PoisonError};

use sea_orm::{DatabaseConnection, Statement};

use crate::db::Store;

/// The statements that a store has sent, in order, apart from `BEGIN` and `COMMIT`.
#[derive(Clone, Default)]
pub struct Statements(Arc<Mutex<Vec<Statement>>>);

impl Statements {
    /// What was sent since the last call.
    pub fn take(&self) -> Vec<Statement> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn watch(&self, conn: &mut DatabaseConnection) {
        let sent = self.0.clone();
        conn.set_metric_callback(move |info| {
            sent.lock().unwrap_or_else(PoisonError::into_inner).push(info.statement.clone());
        });
    }
}

pub(super) fn record(mut store: Store) -> (Store, Statements) {
    let statements = Statements::default();
    store.for_each_connection(|conn| statements.watch(conn));
    (store, statements)
}
