//! Scopes of tokens, rotation of pairing tokens, registries with sealed secrets,
//! and an audit log that can be searched.

use sea_orm_migration::prelude::*;

use super::columns::{cascade, id, index, moment, optional, reference, table, text, to_account, unique};
use crate::entities::{
    audit_events, devices, enrolments, fleets, groups, pairing_details, registries, roles, sealing_checks,
    token_fleets, tokens, user_roles, users,
};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in tables() {
            manager.create_table(table).await?;
        }
        for change in new_columns() {
            manager.alter_table(change).await?;
        }
        for statement in FILL {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        manager.get_connection().execute_unprepared(TOKENS_OF_USERS).await?;
        // The index by time answers the same questions.
        manager.drop_index(Index::drop().name("audit_events_account").table(audit_events::Entity).to_owned()).await
    }
}

fn tables() -> Vec<TableCreateStatement> {
    use pairing_details::Column as P;
    use registries::Column as R;
    let token = (tokens::Entity, tokens::Column::Id);
    let to_group = ForeignKey::create()
        .from(pairing_details::Entity, P::GroupId)
        .to(groups::Entity, groups::Column::Id)
        .on_delete(ForeignKeyAction::SetNull)
        .take();
    vec![
        table(token_fleets::Entity)
            .col(reference(token_fleets::Column::TokenId))
            .col(reference(token_fleets::Column::FleetId))
            .primary_key(Index::create().col(token_fleets::Column::TokenId).col(token_fleets::Column::FleetId))
            .foreign_key(&mut cascade((token_fleets::Entity, token_fleets::Column::TokenId), token))
            .foreign_key(&mut cascade(
                (token_fleets::Entity, token_fleets::Column::FleetId),
                (fleets::Entity, fleets::Column::Id),
            ))
            .take(),
        table(pairing_details::Entity)
            .col(id(P::TokenId))
            .col(optional(P::GroupId))
            .col(optional(P::SuccessorId))
            .col(moment(P::RotatedAt))
            .foreign_key(&mut cascade((pairing_details::Entity, P::TokenId), token))
            .foreign_key(&mut to_group.clone())
            .foreign_key(&mut cascade((pairing_details::Entity, P::SuccessorId), token))
            .take(),
        table(enrolments::Entity)
            .col(id(enrolments::Column::DeviceId))
            .col(reference(enrolments::Column::TokenId))
            .foreign_key(&mut cascade(
                (enrolments::Entity, enrolments::Column::DeviceId),
                (devices::Entity, devices::Column::Id),
            ))
            .foreign_key(&mut cascade((enrolments::Entity, enrolments::Column::TokenId), token))
            .take(),
        table(registries::Entity)
            .col(id(R::Id))
            .col(reference(R::AccountId))
            .col(text(R::Name))
            .col(text(R::Kind))
            .col(text(R::Url))
            .col(text(R::Username))
            .col(text(R::SealedSecret))
            .col(moment(R::CreatedAt))
            .foreign_key(&mut to_account(registries::Entity, R::AccountId))
            .take(),
        table(sealing_checks::Entity)
            .col(id(sealing_checks::Column::Id))
            .col(text(sealing_checks::Column::Sealed))
            .take(),
    ]
}

/// One column each: SQLite adds no more in one statement.
fn new_columns() -> Vec<TableAlterStatement> {
    use tokens::Column as T;
    let text = |column, default: &str| ColumnDef::new(column).text().not_null().default(default).take();
    let flag = |column| ColumnDef::new(column).boolean().not_null().default(false).take();
    let tokens = |mut column: ColumnDef| Table::alter().table(tokens::Entity).add_column(&mut column).take();
    let project_key = ColumnDef::new(audit_events::Column::ProjectKey).text().not_null().default("").take();
    vec![
        tokens(text(T::Uuid, "")),
        tokens(flag(T::IsLogin)),
        tokens(flag(T::IsFleetScoped)),
        tokens(text(T::ScopePermissions, "*")),
        Table::alter().table(audit_events::Entity).add_column(project_key).take(),
    ]
}

/// What the rows of earlier versions have in the new columns. A quarter of a hash of
/// 32 random bytes names a token and says nothing of it.
const FILL: [&str; 2] = [
    r#"UPDATE "tokens" SET "uuid" = 't-' || substr("secret_hash", 1, 16)"#,
    r#"UPDATE "audit_events" SET "project_key" = COALESCE(
        (SELECT "project_key" FROM "fleets" WHERE "fleets"."id" = "audit_events"."fleet_id"), '')"#,
];

/// An account may have a million device tokens; its users have few.
const TOKENS_OF_USERS: &str =
    r#"CREATE INDEX "tokens_of_users" ON "tokens" ("account_id", "id") WHERE "user_id" IS NOT NULL"#;

fn indexes() -> Vec<IndexCreateStatement> {
    use audit_events::Column as A;
    use pairing_details::Column as P;
    use tokens::Column as T;
    let audit = |name: &str, column: A| index(name, audit_events::Entity, [A::AccountId, column, A::At, A::Id]);
    vec![
        unique("tokens_uuid", tokens::Entity, [T::Uuid]),
        index("tokens_user", tokens::Entity, [T::UserId, T::Id]),
        index("tokens_fleet", tokens::Entity, [T::FleetId, T::Id]),
        index("token_fleets_fleet", token_fleets::Entity, [token_fleets::Column::FleetId]),
        index("pairing_details_group", pairing_details::Entity, [P::GroupId]),
        index("pairing_details_successor", pairing_details::Entity, [P::SuccessorId]),
        index("enrolments_token", enrolments::Entity, [enrolments::Column::TokenId]),
        unique("registries_name", registries::Entity, [registries::Column::AccountId, registries::Column::Name]),
        index("registries_account", registries::Entity, [registries::Column::AccountId, registries::Column::Id]),
        index("users_account", users::Entity, [users::Column::AccountId, users::Column::Id]),
        index("roles_account", roles::Entity, [roles::Column::AccountId, roles::Column::Id]),
        index("user_roles_role", user_roles::Entity, [user_roles::Column::RoleId, user_roles::Column::UserId]),
        // One for each filter of the log that can stand alone, in the order of its pages.
        index("audit_events_time", audit_events::Entity, [A::AccountId, A::At, A::Id]),
        audit("audit_events_actor", A::Actor),
        audit("audit_events_action", A::Action),
        audit("audit_events_subject", A::Subject),
        audit("audit_events_fleet", A::ProjectKey),
        audit("audit_events_ip", A::SourceIp),
    ]
}
