//! Port tunnels, remote commands, sessions and their recordings.

use muster_core::access_grant::Reach;
use muster_core::remote_session::EndReason;
use muster_core::tunnel::TunnelStatus;
use muster_store::ConnectionTrait;
use muster_store::port_tunnels::Moved;
use muster_store::remote_sessions::{SessionBytes, SessionFilter};
use muster_store::terminals::TerminalEnd;
use muster_store::testing::TestDatabase;

use super::{Crowd, PLACED};
use crate::fixture::parsed;

on_both_engines!(port_tunnels_walk_no_big_table, remote_commands_walk_no_big_table, remote_sessions_walk_no_big_table,);

/// One for each device; every hundredth of them is open.
fn tunnel_rows() -> String {
    format!(
        r#"INSERT INTO "port_tunnels"
        ("id", "uuid", "fleet_id", "device_id", "port", "allowed_ip", "server_address", "server_port", "status",
        "reason_code", "reason", "created_by", "created_at", "finished_at", "ends_at", "expires_at")
        SELECT "id", 'tunnel ' || "id", "fleet_id", "id", 22, '192.0.2.1', 'host', 40000,
        CASE WHEN "n" % 100 = 7 THEN 1 ELSE 2 END, '', '', '', 0, 0, 0, 0 FROM {PLACED}"#
    )
}

async fn port_tunnels_walk_no_big_table(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    let (house, fleet) = (&crowd.house, crowd.house.fleet.id);
    for rows in [tunnel_rows(), "ANALYZE".to_owned()] {
        house.write(async |tx| Ok(tx.execute_unprepared(&rows).await.map(drop)?)).await.unwrap();
    }
    let device = crowd.ids[6];
    let uuid = &format!("tunnel {device}");
    let moment = muster_core::clock::Timestamp::from_millis(10);
    crowd
        .assert_indexed("a tunnel", async |tx| {
            tx.port_tunnels(fleet, &Reach::Fleet, 100).await?;
            tx.find_port_tunnel(fleet, uuid).await?;
            tx.find_open_port_tunnel(device, uuid).await?;
            tx.standing_port_tunnels("home").await?;
            tx.port_tunnels_held_by("home").await?;
            tx.add_moved(&[(uuid.clone(), Moved { connections: 1, ..Moved::default() })]).await?;
            tx.open_port_tunnel(device, uuid).await?;
            tx.end_port_tunnel(device, uuid, TunnelStatus::Closed, ("", "")).await?;
            tx.forget_port_tunnels(moment, 10).await?;
            tx.expire_port_tunnels(500).await.map(drop)
        })
        .await;
    let plans = crowd.plans(async |tx| tx.overdue_port_tunnels(10).await.map(drop)).await;
    assert!(plans[0].contains("port_tunnels_open"), "{}", plans[0]);
}

async fn remote_commands_walk_no_big_table(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    let (house, fleet) = (&crowd.house, crowd.house.fleet.id);
    let run = crate::command_runs::run(house, &house.everything()).await;
    for _ in 0..2 {
        crate::command_runs::run(house, &house.everything()).await;
    }
    let settle =
        format!(r#"UPDATE "command_targets" SET "status" = 2 WHERE "run_id" <> {} OR "device_id" % 100 <> 7"#, run.id);
    for rows in [settle, "ANALYZE".to_owned()] {
        house.write(async |tx| Ok(tx.execute_unprepared(&rows).await.map(drop)?)).await.unwrap();
    }
    let (device, uuid) = (crowd.ids[6], parsed(run.uuid.parse()));
    let moment = muster_core::clock::Timestamp::from_millis(10);
    crowd
        .assert_indexed("a remote command", async |tx| {
            tx.find_command_run(fleet, &uuid).await?;
            for reach in [Reach::Fleet, Reach::Devices([device, crowd.ids[7]].into())] {
                tx.command_runs_page(fleet, &reach, None, 10).await?;
                tx.command_runs_count(fleet, &reach).await?;
                tx.is_command_run_within(run.id, &reach).await?;
            }
            tx.command_targets_page(run.id, None, Some(device), 10).await?;
            tx.command_output(run.id, device).await?;
            tx.due_commands("a", Some(&[device]), 10).await?;
            tx.commands_unable(run.id, &[device]).await?;
            tx.expire_command_targets(10).await?;
            tx.forget_command_run(moment, 10).await.map(drop)
        })
        .await;
}

/// One for each device; every hundredth of them is open.
fn session_rows() -> String {
    format!(
        r#"INSERT INTO "remote_sessions"
        ("id", "uuid", "fleet_id", "device_id", "kind", "host", "target", "created_by", "source_ip", "token_id", "home",
        "is_open", "reason_code", "reason", "created_at", "ends_at", "finished_at", "bytes_to_device",
        "bytes_from_device")
        SELECT "id", 'session ' || "id", "fleet_id", "id", 0, '', '22', '', '', 0, 'home', "n" % 100 = 7, '', '', 0, 0,
        0, 0, 0 FROM {PLACED}"#
    )
}

/// Every session is a terminal; every hundredth recording is due.
fn terminal_rows() -> String {
    format!(
        r#"INSERT INTO "terminals" ("session_id", "is_cut_short", "is_kept", "delete_at")
        SELECT "id", FALSE, "n" % 100 = 7, 0 FROM {PLACED}"#
    )
}

async fn remote_sessions_walk_no_big_table(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    let (house, fleet) = (&crowd.house, crowd.house.fleet.id);
    for rows in [session_rows(), terminal_rows(), "ANALYZE".to_owned()] {
        house.write(async |tx| Ok(tx.execute_unprepared(&rows).await.map(drop)?)).await.unwrap();
    }
    let device = crowd.ids[6];
    let uuid = &format!("session {device}");
    let moment = muster_core::clock::Timestamp::from_millis(10);
    let of_device = &SessionFilter { device_id: Some(device), ..SessionFilter::default() };
    crowd
        .assert_indexed("a session", async |tx| {
            tx.remote_sessions(fleet, &SessionFilter::default(), Some(device), 100).await?;
            tx.remote_sessions(fleet, of_device, None, 100).await?;
            tx.remote_sessions_count(fleet, of_device).await?;
            tx.find_remote_session(fleet, uuid).await?;
            tx.standing_remote_sessions("home").await?;
            tx.remote_sessions_held_by("home").await?;
            tx.recordings_due("home", 100).await?;
            tx.known_remote_sessions(std::slice::from_ref(uuid)).await?;
            tx.end_terminal(uuid, TerminalEnd::default()).await?;
            tx.forget_recordings(std::slice::from_ref(uuid)).await?;
            tx.forget_remote_sessions(moment, 10).await?;
            tx.end_remote_session(uuid, EndReason::FINISHED, SessionBytes::default()).await.map(drop)
        })
        .await;
}
