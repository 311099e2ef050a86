//! Columns, keys and indexes, in the words that every migration shares.

use sea_orm_migration::prelude::*;

use crate::entities::accounts;

/// A table without columns.
pub(super) fn table(name: impl IntoTableRef) -> TableCreateStatement {
    Table::create().table(name).take()
}

/// A primary key, made by the program.
pub(super) fn id(column: impl IntoIden) -> ColumnDef {
    ColumnDef::new(column).big_integer().not_null().primary_key().take()
}

/// A whole number.
pub(super) fn reference(column: impl IntoIden) -> ColumnDef {
    ColumnDef::new(column).big_integer().not_null().take()
}

/// A whole number, or none.
pub(super) fn optional(column: impl IntoIden) -> ColumnDef {
    ColumnDef::new(column).big_integer().take()
}

/// A moment: milliseconds since 1970.
pub(super) fn moment(column: impl IntoIden) -> ColumnDef {
    reference(column)
}

/// Text.
pub(super) fn text(column: impl IntoIden) -> ColumnDef {
    ColumnDef::new(column).text().not_null().take()
}

/// True or false.
pub(super) fn flag(column: impl IntoIden) -> ColumnDef {
    ColumnDef::new(column).boolean().not_null().take()
}

/// To the account; an account that has any of these cannot go.
pub(super) fn to_account(table: impl IntoTableRef, column: impl IntoIden) -> ForeignKeyCreateStatement {
    let account = (accounts::Entity, accounts::Column::Id);
    restrict((table, column), account)
}

/// To a row that cannot go before this one.
pub(super) fn restrict<T: IntoTableRef, C: IntoIden, U: IntoTableRef, D: IntoIden>(
    from: (T, C),
    to: (U, D),
) -> ForeignKeyCreateStatement {
    ForeignKey::create().from(from.0, from.1).to(to.0, to.1).on_delete(ForeignKeyAction::Restrict).take()
}

/// To a row that takes this one with it.
pub(super) fn cascade<T: IntoTableRef, C: IntoIden, U: IntoTableRef, D: IntoIden>(
    from: (T, C),
    to: (U, D),
) -> ForeignKeyCreateStatement {
    ForeignKey::create().from(from.0, from.1).to(to.0, to.1).on_delete(ForeignKeyAction::Cascade).take()
}

/// An index.
pub(super) fn index<C: IntoIden + 'static, const N: usize>(
    name: &str,
    table: impl IntoTableRef,
    columns: [C; N],
) -> IndexCreateStatement {
    let mut index = Index::create().name(name).table(table).take();
    for column in columns {
        index.col(column.into_iden());
    }
    index
}

/// An index of unique rows.
pub(super) fn unique<C: IntoIden + 'static, const N: usize>(
    name: &str,
    table: impl IntoTableRef,
    columns: [C; N],
) -> IndexCreateStatement {
    index(name, table, columns).unique().take()
}
