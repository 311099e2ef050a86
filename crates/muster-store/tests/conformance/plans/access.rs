//! The audit log, and access grants.

use muster_core::access::{Permission, RoleRights};
use muster_core::ids::RowId;
use muster_store::ConnectionTrait;
use muster_store::access_grants::{GrantFilter, GrantViewer};
use muster_store::audit::AuditFilter;
use muster_store::testing::TestDatabase;

use super::{Crowd, DEVICES, PLACED};

on_both_engines!(each_filter_of_the_audit_log_has_its_index, access_grants_walk_no_big_table,);

/// Of a hundred actors, actions, subjects, fleets and addresses, an entry for each device.
fn audit_rows() -> String {
    format!(
        r#"INSERT INTO "audit_events"
        ("id", "account_id", "at", "actor", "action", "subject", "source_ip", "detail", "project_key")
        SELECT "id", "account_id", "id", 'user:' || ("n" % 100), 'Act' || ("n" % 100), 'tag:' || ("n" % 100),
        '192.0.2.' || ("n" % 100), '{{}}', 'fleet' || ("n" % 100) FROM {PLACED}"#
    )
}

async fn each_filter_of_the_audit_log_has_its_index(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    let (house, id) = (&crowd.house, crowd.ids[DEVICES / 2]);
    house.write(async |tx| Ok(tx.execute_unprepared(&audit_rows()).await.map(drop)?)).await.unwrap();
    house.write(async |tx| Ok(tx.execute_unprepared("ANALYZE").await.map(drop)?)).await.unwrap();
    let at = |id| Some(muster_core::clock::Timestamp::from_millis(id));
    let named = |word: &str| Some(format!("{word}7"));
    let (none, time) = (AuditFilter::default, "audit_events_time");
    let filters = [
        (time, none()),
        ("audit_events_actor", AuditFilter { actor: named("user:"), ..none() }),
        ("audit_events_action", AuditFilter { action: named("Act"), ..none() }),
        ("audit_events_subject", AuditFilter { subject: named("tag:"), ..none() }),
        ("audit_events_fleet", AuditFilter { project_key: named("fleet"), ..none() }),
        ("audit_events_ip", AuditFilter { source_ip: named("192.0.2."), ..none() }),
        (time, AuditFilter { from: at(id), ..none() }),
        (time, AuditFilter { to: at(id), ..none() }),
        (time, AuditFilter { from: at(crowd.ids[10]), to: at(id), ..none() }),
    ];
    for (index, filter) in filters {
        let found = crowd.store.read().audit_page(house.account, &filter, None, 1_000).await.unwrap();
        assert!(found.len() >= 20, "{filter:?} finds what it is tried with");
        for after in [None, Some(found[5].id)] {
            let plans = crowd.plans(async |tx| tx.audit_page(house.account, &filter, after, 10).await.map(drop)).await;
            let page = &plans[plans.len() - 1];
            assert!(page.contains(index), "{filter:?}:\n{page}");
            assert!(!page.contains("TEMP B-TREE") && !page.contains("Sort"), "{filter:?} sorts:\n{page}");
        }
        crowd
            .assert_indexed(&format!("{filter:?}"), async |tx| {
                tx.audit_page(house.account, &filter, Some(found[5].id), 10).await?;
                tx.audit_count(house.account, &filter).await.map(drop)
            })
            .await;
    }
}

/// For each device a user, whose role holds something back, and a grant for the device; every
/// hundredth of those is not over, and half of these hold.
fn grant_rows(account: RowId, role: RowId) -> [String; 5] {
    [
        format!(
            r#"INSERT INTO "users" ("id", "account_id", "name", "password_hash", "is_admin", "created_at")
            SELECT "id", {account}, 'user ' || "id", '', FALSE, 0 FROM {PLACED}"#
        ),
        format!(
            r#"INSERT INTO "user_roles" ("user_id", "fleet_id", "role_id") SELECT "id", "fleet_id", {role} FROM {PLACED}"#
        ),
        format!(
            r#"INSERT INTO "access_grants" ("id", "uuid", "fleet_id", "user_id", "is_for_fleet", "reason",
            "duration_ms", "status", "created_at", "ends_at", "answered_at", "answered_by", "comment", "finished_at",
            "finished_by") SELECT "id", 'grant ' || "id", "fleet_id", "id", FALSE, '', 1,
            CASE WHEN "n" % 200 = 7 THEN 1 WHEN "n" % 100 = 7 THEN 0 ELSE 2 END, 0, 9000000000000000, 0, '', '', 0, ''
            FROM {PLACED}"#
        ),
        format!(
            r#"INSERT INTO "access_grant_permissions" ("grant_id", "permission")
            SELECT "id", 'remote_access' FROM {PLACED}"#
        ),
        format!(r#"INSERT INTO "access_grant_devices" ("grant_id", "device_id") SELECT "id", "id" FROM {PLACED}"#),
    ]
}

async fn access_grants_walk_no_big_table(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    let (house, fleet) = (&crowd.house, &crowd.house.fleet);
    let rights = RoleRights { needs_grant: vec![Permission::RemoteAccess], ..RoleRights::default() };
    let role = house.write(async |tx| tx.insert_role(fleet.account_id, "on-call", &rights).await).await.unwrap();
    for rows in grant_rows(fleet.account_id, role).into_iter().chain(["ANALYZE".to_owned()]) {
        house.write(async |tx| Ok(tx.execute_unprepared(&rows).await.map(drop)?)).await.unwrap();
    }
    // Whose device has its place in the fleet.
    let user = crowd.ids[6];
    let uuid = &format!("grant {user}");
    let viewer = &GrantViewer { user_id: user, answers: [Permission::RemoteAccess].into() };
    let own = GrantFilter { is_own: Some(true), status: None };
    let pending = GrantFilter { is_own: None, status: Some(0) };
    crowd
        .assert_indexed("an access grant", async |tx| {
            tx.held_in(user, fleet.id).await?;
            tx.holds_anywhere(user, Permission::RemoteAccess).await?;
            tx.held_back_anywhere(user, Permission::RemoteAccess).await?;
            tx.fleets_with(user, Permission::RemoteAccess).await?;
            tx.find_access_grant(fleet.id, viewer, uuid).await?;
            for filter in [GrantFilter::default(), own, pending] {
                tx.access_grants_page(fleet.id, viewer, filter, None, 100).await?;
                tx.access_grants_count(fleet.id, viewer, filter).await?;
            }
            tx.pending_access_grants(fleet.id, user).await?;
            tx.overdue_access_grants(100).await?;
            tx.expire_access_grants(100, "server").await.map(drop)
        })
        .await;
}
