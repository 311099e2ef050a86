//! Words that the migrations share: columns, keys and indexes that both engines have.

use sea_orm_migration::prelude::*;

use crate::entities::accounts;

pub(super) fn table(name: impl IntoTableRef) -> TableCreateStatement {
    Table::create().table(name).take()
}

pub(super) fn id(column: impl IntoIden) -> ColumnDef {
    ColumnDef::new(column).big_integer().not_null().primary_key().take()
}

pub(super) fn reference(column: impl IntoIden) -> ColumnDef {
    ColumnDef::new(column).big_integer().not_null().take()
}

pub(super) fn optional(column: impl IntoIden) -> ColumnDef {
    ColumnDef::new(column).big_integer().take()
}

pub(super) fn moment(column: impl IntoIden) -> ColumnDef {
    reference(column)
}

pub(super) fn text(column: impl IntoIden) -> ColumnDef {
    ColumnDef::new(column).text().not_null().take()
}

pub(super) fn flag(column: impl IntoIden) -> ColumnDef {
    ColumnDef::new(column).boolean().not_null().take()
}

pub(super) fn to_account(table: impl IntoTableRef, column: impl IntoIden) -> ForeignKeyCreateStatement {
    let account = (accounts::Entity, accounts::Column::Id);
    restrict((table, column), account)
}

pub(super) fn restrict<T: IntoTableRef, C: IntoIden, U: IntoTableRef, D: IntoIden>(
    from: (T, C),
    to: (U, D),
) -> ForeignKeyCreateStatement {
    ForeignKey::create().from(from.0, from.1).to(to.0, to.1).on_delete(ForeignKeyAction::Restrict).take()
}

pub(super) fn cascade<T: IntoTableRef, C: IntoIden, U: IntoTableRef, D: IntoIden>(
    from: (T, C),
    to: (U, D),
) -> ForeignKeyCreateStatement {
    ForeignKey::create().from(from.0, from.1).to(to.0, to.1).on_delete(ForeignKeyAction::Cascade).take()
}

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

pub(super) fn unique<C: IntoIden + 'static, const N: usize>(
    name: &str,
    table: impl IntoTableRef,
    columns: [C; N],
) -> IndexCreateStatement {
    index(name, table, columns).unique().take()
}
