//! The engine, rollouts, and what updates come from.

use muster_core::ids::RowId;
use muster_store::ConnectionTrait;
use muster_store::testing::TestDatabase;

use super::{Crowd, PLACED};

on_both_engines!(the_engine_walks_no_big_table, rollouts_walk_no_big_table, artifacts_walk_no_big_table,);

async fn the_engine_walks_no_big_table(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    let (house, ids) = (&crowd.house, &crowd.ids);
    let mut keepalive = house.keepalive(&house.device("one").await);
    for id in &ids[..50] {
        keepalive.device_id = *id;
        house.write(async |tx| tx.open_link("a", &keepalive).await).await.unwrap();
    }
    crowd
        .assert_indexed("the engine", async |tx| {
            let due = tx.due("a", None, 500).await?;
            assert_eq!(due.len(), 50);
            tx.due("a", Some(&ids[..1]), 500).await?;
            tx.mark_sent(&due).await?;
            tx.expire_targets(500).await?;
            tx.abort_targets(due[0].deployment_id, Some(due[0].device_id)).await?;
            tx.close_link(ids[0], 1).await?;
            tx.close_links_of("a").await
        })
        .await;
    let plans = crowd.plans(async |tx| tx.expire_targets(500).await.map(drop)).await;
    assert!(plans[0].contains("targets_deadline"), "{}", plans[0]);
    let plans = crowd.plans(async |tx| tx.due("a", None, 500).await.map(drop)).await;
    assert!(plans[0].contains("fleets_windows"), "{}", plans[0]);
    assert!(plans[1].contains("targets_open"), "{}", plans[1]);
}

/// Of the planner's counts every row of the deployment is read, but from an index alone.
async fn rollouts_walk_no_big_table(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    let (house, ids) = (&crowd.house, &crowd.ids);
    // Other deployments, so that one is a part of the table, but none in its way.
    house.deploy(&house.everything()).await;
    let over = r#"UPDATE "targets" SET "status" = 4 WHERE "status" < 2"#;
    house.write(async |tx| Ok(tx.execute_unprepared(over).await.map(drop)?)).await.unwrap();
    let wire = serde_json::json!({
        "waves": [{ "count": 100 }], "in_progress_max": 50, "follow_until": "2026-06-09T14:10:44Z",
        "disruption": { "tag_key": "label", "in_progress_max": 10 },
    });
    let rollout = house.rollout(wire).await;
    let new = muster_store::deployments::NewDeployment { rollout: Some(rollout), ..house.deployment() };
    let deployed = house.deploy_as(&new, &house.everything()).await;
    let mut keepalive = house.keepalive(&house.device("one").await);
    // Rollouts go by the rows, whose ids are in no order within one moment.
    let mut first = ids.clone();
    first.sort_unstable();
    for id in &first[..50] {
        keepalive.device_id = *id;
        house.write(async |tx| tx.open_link("a", &keepalive).await).await.unwrap();
    }
    crowd
        .assert_indexed("a rollout", async |tx| {
            let rollout = tx.open_rollouts().await?.pop().unwrap();
            tx.is_rollout_due(&rollout, "a").await?;
            let advanced = tx.advance_rollout(deployed.id, "a").await?.unwrap();
            assert!(advanced.released > 0);
            tx.advance_rollout(deployed.id, "a").await?;
            tx.put_off(&deployed.uuid, ids[0], 1, "busy").await?;
            tx.pause_rollout(deployed.id).await?;
            tx.resume_rollout(deployed.id).await?;
            tx.retry_failed(deployed.id).await.map(drop)
        })
        .await;
}

/// For each device an artifact in a folder of its own, and a request; every hundredth blob is unused.
fn artifact_rows(repository: RowId) -> [String; 5] {
    let into = |table: &str, columns: &str, values: &str| {
        format!(r#"INSERT INTO "{table}" ({columns}) SELECT {values} FROM {PLACED}"#)
    };
    [
        into(
            "blobs",
            "id, sha256, sha1, md5, size, created_at, unreferenced_at",
            r#""id", 'sha256 ' || "id", '', '', 7, 0, CASE WHEN "n" % 100 = 7 THEN 1 ELSE 0 END"#,
        ),
        into(
            "artifact_folders",
            "id, repository_id, parent_id, path, created_by, created_at",
            &format!(r#""id", {repository}, NULL, 'f' || "id", '', 0"#),
        ),
        into(
            "artifacts",
            "id, repository_id, folder_id, path, blob_id, mime_type, created_by, created_at, modified_by, modified_at",
            &format!(r#""id", {repository}, "id", 'f' || "id" || '/a', "id", '', '', 0, '', 0"#),
        ),
        into("loose_objects", "id, due_at, multipart_id", r#"-"id", "n" + 1000000, ''"#),
        into(
            "file_requests",
            "id, device_id, repository_id, path, files_path, status, reason, dispatched_epoch, created_at, ends_at",
            &format!(
                r#""id", "id", {repository}, 'p' || "id", '/', CASE WHEN "n" % 100 = 7 THEN 0 ELSE 1 END, '', 0, 0, "n""#
            ),
        ),
    ]
}

async fn artifacts_walk_no_big_table(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    let house = &crowd.house;
    let files = crate::artifacts::repository(house, "files", None).await;
    for rows in artifact_rows(files).into_iter().chain(["ANALYZE".to_owned()]) {
        house.write(async |tx| Ok(tx.execute_unprepared(&rows).await.map(drop)?)).await.unwrap();
    }
    let ids = &crowd.ids;
    let at = |id: RowId| crate::artifacts::path(&format!("f{id}/a"));
    let moment = muster_core::clock::Timestamp::from_millis(10);
    let new = |id: RowId| muster_store::artifacts::NewArtifact {
        repository_id: files,
        path: at(id),
        blob_id: ids[9],
        mime_type: String::new(),
        by: String::new(),
    };
    crowd
        .assert_indexed("an artifact", async |tx| {
            tx.find_artifact(files, &at(ids[5])).await?;
            tx.in_the_way(files, &at(ids[5])).await?;
            tx.folder_children(ids[5], 100).await?;
            tx.find_blob_by_sha256("sha256 7").await?;
            tx.repositories_of_blob(ids[5], 10).await?;
            tx.holds_artifacts(files).await?;
            tx.artifact_bytes(house.account).await?;
            tx.put_artifact(&new(ids[5])).await?;
            tx.delete_artifact(ids[6]).await?;
            tx.delete_folder(ids[7]).await
        })
        .await;
    crowd
        .assert_indexed("a collection", async |tx| {
            tx.blobs_end(ids[5], 500).await?;
            tx.mark_unused_blobs(ids[5], ids[100]).await?;
            tx.drop_unused_blobs(moment, 500).await?;
            tx.loose_objects_due(500).await?;
            tx.note_multipart(ids[5], "parts").await?;
            tx.forget_loose_objects(&ids[..10]).await?;
            tx.forget_file_requests(moment).await.map(drop)
        })
        .await;
    crowd
        .assert_indexed("a request for files", async |tx| {
            tx.due_file_requests("a", None, 500).await?;
            let due = tx.due_file_requests("a", Some(&ids[..10]), 500).await?;
            tx.mark_file_requests_sent(&due).await?;
            tx.find_file_request(files, "p7").await?;
            tx.pending_file_requests(ids[5]).await?;
            tx.file_request_failed(ids[5], ids[5], "").await?;
            tx.file_request_stored(files, "p7").await
        })
        .await;
}
