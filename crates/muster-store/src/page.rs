//! Pages by key, and counts beside each of their rows.

use sea_orm::sea_query::{Expr, ExprTrait, Func, IntoColumnRef, IntoTableRef, Order, Query, SelectStatement, Value};

/// The page of `query` behind the one that ended at `after`, by `key`: with one row more
/// than `limit`, for [`cut`].
pub(crate) fn page(
    mut query: SelectStatement,
    key: impl IntoColumnRef + Copy,
    after: Option<impl Into<Value>>,
    limit: u64,
) -> SelectStatement {
    if let Some(after) = after {
        query.and_where(Expr::col(key).gt(Expr::value(after)));
    }
    query.order_by(key, Order::Asc).limit(limit + 1).take()
}

/// The first `limit` rows, and whether there were more.
pub(crate) fn cut<T>(mut rows: Vec<T>, limit: u64) -> (Vec<T>, bool) {
    let is_more = rows.len() as u64 > limit;
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    (rows, is_more)
}

/// How many rows of `table` belong to the row that is being selected.
pub(crate) fn count(table: impl IntoTableRef, belongs: Expr) -> Expr {
    subquery(Query::select().expr(Func::count(Expr::cust("*"))).from(table).and_where(belongs).take())
}

/// A query of one value, as a value.
pub(crate) fn subquery(query: SelectStatement) -> Expr {
    Expr::SubQuery(None, Box::new(query.into()))
}
