//! Pairing tokens: listed, rotated, and which device each of them made.

use std::collections::BTreeMap;

use muster_core::clock::Timestamp;
use muster_core::ids::{RowId, TokenUuid};
use muster_core::token::TokenKind;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};

use crate::db::{Db, Result, Tx};
use crate::entities::{enrolments, groups, pairing_details, tokens};

/// A pairing token, good or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairingToken {
    /// The row.
    pub id: RowId,
    /// As the APIs name it.
    pub uuid: String,
    /// For people.
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself; [`Timestamp::FOREVER`] for never.
    pub expires_at: Timestamp,
    /// When it was revoked; [`Timestamp::NEVER`] when it was not.
    pub revoked_at: Timestamp,
    /// How many devices it has made.
    pub uses: i64,
    /// How many it may make; `None` for any number.
    pub uses_max: Option<i64>,
    /// The row of the group that its devices land in.
    pub group_id: Option<RowId>,
    /// The name of that group.
    pub group_name: Option<String>,
    /// The token that is to follow it.
    pub rotation: Option<Rotation>,
}

/// A pairing token that is being replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Since when.
    pub started_at: Timestamp,
    /// The row of the new token.
    pub successor_id: RowId,
    /// The new token, as the APIs name it.
    pub successor_uuid: String,
}

fn of(fleet_id: RowId) -> Condition {
    Condition::all().add(tokens::Column::FleetId.eq(fleet_id)).add(tokens::Column::Kind.eq(TokenKind::Pairing.as_str()))
}

impl<C: ConnectionTrait> Db<C> {
    /// The next `limit` pairing tokens of a fleet behind the row `after`, oldest
    /// first, and whether there are more.
    pub async fn pairing_tokens_page(
        &self,
        fleet_id: RowId,
        after: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<PairingToken>, bool)> {
        let which = of(fleet_id).add_option(after.map(|after| tokens::Column::Id.gt(after)));
        let mut found = self.pairing_tokens(which, limit + 1).await?;
        let is_more = found.len() as u64 > limit;
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((found, is_more))
    }

    /// How many pairing tokens a fleet has.
    pub async fn pairing_tokens_count(&self, fleet_id: RowId) -> Result<u64> {
        Ok(tokens::Entity::find().filter(of(fleet_id)).count(&self.conn).await?)
    }

    /// The pairing token of a fleet with that id.
    pub async fn find_pairing_token(&self, fleet_id: RowId, uuid: &TokenUuid) -> Result<Option<PairingToken>> {
        let which = of(fleet_id).add(tokens::Column::Uuid.eq(uuid.as_str()));
        Ok(self.pairing_tokens(which, 1).await?.pop())
    }

    /// The pairing token in that row.
    pub async fn find_pairing_token_by_id(&self, fleet_id: RowId, id: RowId) -> Result<Option<PairingToken>> {
        Ok(self.pairing_tokens(of(fleet_id).add(tokens::Column::Id.eq(id)), 1).await?.pop())
    }

    async fn pairing_tokens(&self, which: Condition, limit: u64) -> Result<Vec<PairingToken>> {
        let rows = tokens::Entity::find().filter(which).order_by_asc(tokens::Column::Id).limit(limit);
        let rows = rows.all(&self.conn).await?;
        let ids = rows.iter().map(|row| row.id);
        let details = pairing_details::Entity::find().filter(pairing_details::Column::TokenId.is_in(ids));
        let details = details.all(&self.conn).await?;
        let successors = self.token_uuids(details.iter().filter_map(|detail| detail.successor_id)).await?;
        let groups = self.names_of_groups(details.iter().filter_map(|detail| detail.group_id)).await?;
        let details: BTreeMap<RowId, _> = details.into_iter().map(|detail| (detail.token_id, detail)).collect();
        Ok(rows.into_iter().map(|row| pairing_token(&details, &successors, &groups, row)).collect())
    }

    async fn token_uuids(&self, ids: impl Iterator<Item = RowId>) -> Result<BTreeMap<RowId, String>> {
        let query = tokens::Entity::find()
            .select_only()
            .columns([tokens::Column::Id, tokens::Column::Uuid])
            .filter(tokens::Column::Id.is_in(ids));
        let found: Vec<(RowId, String)> = query.into_tuple().all(&self.conn).await?;
        Ok(found.into_iter().collect())
    }

    async fn names_of_groups(&self, ids: impl Iterator<Item = RowId>) -> Result<BTreeMap<RowId, String>> {
        let query = groups::Entity::find()
            .select_only()
            .columns([groups::Column::Id, groups::Column::Name])
            .filter(groups::Column::Id.is_in(ids));
        let found: Vec<(RowId, String)> = query.into_tuple().all(&self.conn).await?;
        Ok(found.into_iter().collect())
    }

    /// The group that the devices of a pairing token land in, if it names one.
    pub async fn group_of_pairing_token(&self, token_id: RowId) -> Result<Option<RowId>> {
        let detail = pairing_details::Entity::find_by_id(token_id).one(&self.conn).await?;
        Ok(detail.and_then(|detail| detail.group_id))
    }

    /// Whether that pairing token made that device.
    pub async fn is_enrolled_by(&self, device_id: RowId, token_id: RowId) -> Result<bool> {
        let query = enrolments::Entity::find_by_id(device_id).filter(enrolments::Column::TokenId.eq(token_id));
        Ok(query.count(&self.conn).await? > 0)
    }
}

fn pairing_token(
    details: &BTreeMap<RowId, pairing_details::Model>,
    successors: &BTreeMap<RowId, String>,
    groups: &BTreeMap<RowId, String>,
    row: tokens::Model,
) -> PairingToken {
    let detail = details.get(&row.id);
    let group_id = detail.and_then(|detail| detail.group_id);
    let rotation = detail.and_then(|detail| {
        let successor_id = detail.successor_id?;
        let successor_uuid = successors.get(&successor_id)?.clone();
        Some(Rotation { started_at: Timestamp::from_millis(detail.rotated_at), successor_id, successor_uuid })
    });
    PairingToken {
        id: row.id,
        uuid: row.uuid,
        description: row.description,
        created_at: Timestamp::from_millis(row.created_at),
        expires_at: Timestamp::from_millis(row.expires_at),
        revoked_at: Timestamp::from_millis(row.revoked_at),
        uses: row.uses,
        uses_max: Some(row.uses_max).filter(|max| *max != i64::MAX),
        group_id,
        group_name: group_id.and_then(|id| groups.get(&id).cloned()),
        rotation,
    }
}

impl Tx {
    /// Lets the devices of a pairing token land in a group.
    pub async fn set_pairing_group(&self, token_id: RowId, group_id: RowId) -> Result<()> {
        self.store_pairing_detail(token_id, pairing_details::Column::GroupId, |row| row.group_id = Some(group_id)).await
    }

    /// Notes that one pairing token is to follow another.
    pub async fn start_rotation(&self, token_id: RowId, successor_id: RowId) -> Result<()> {
        let now = self.now().as_millis();
        let set = |row: &mut pairing_details::Model| (row.successor_id, row.rotated_at) = (Some(successor_id), now);
        self.store_pairing_detail(token_id, pairing_details::Column::SuccessorId, set).await
    }

    async fn store_pairing_detail(
        &self,
        token_id: RowId,
        changed: pairing_details::Column,
        set: impl FnOnce(&mut pairing_details::Model),
    ) -> Result<()> {
        let mut row = pairing_details::Model { token_id, group_id: None, successor_id: None, rotated_at: 0 };
        set(&mut row);
        let replace = OnConflict::column(pairing_details::Column::TokenId)
            .update_columns([changed, pairing_details::Column::RotatedAt])
            .to_owned();
        let insert = pairing_details::Entity::insert(pairing_details::ActiveModel::from(row)).on_conflict(replace);
        insert.exec_without_returning(&self.conn).await?;
        Ok(())
    }

    /// Ends every rotation that a pairing token has a part in, as the old one or the new one.
    pub async fn end_rotations(&self, token_id: RowId) -> Result<()> {
        let either = Condition::any()
            .add(pairing_details::Column::TokenId.eq(token_id))
            .add(pairing_details::Column::SuccessorId.eq(token_id));
        let change =
            pairing_details::ActiveModel { successor_id: sea_orm::ActiveValue::Set(None), ..Default::default() };
        pairing_details::Entity::update_many().set(change).filter(either).exec(&self.conn).await?;
        Ok(())
    }

    /// Notes which pairing token made a device.
    pub async fn note_enrolment(&self, device_id: RowId, token_id: RowId) -> Result<()> {
        let row = enrolments::ActiveModel::from(enrolments::Model { device_id, token_id });
        enrolments::Entity::insert(row).exec_without_returning(&self.conn).await?;
        Ok(())
    }
}
