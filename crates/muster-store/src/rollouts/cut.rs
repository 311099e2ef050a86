//! How a rollout would cut its devices into waves: a statement for each wave, and no write.

use muster_core::ids::RowId;
use sea_orm::ConnectionTrait;
use sea_orm::sea_query::{Condition, Expr, ExprTrait, Order, Query, SelectStatement};

use super::NewWave;
use crate::db::{Db, Result};
use crate::entities::devices;
use crate::filter::{Matching, SetForm, column};

/// The devices that no wave has taken yet.
struct Left<'a> {
    of: &'a Matching,
    /// Taken by their filters.
    without: Vec<&'a Matching>,
    /// Taken as the first: everything up to this row.
    behind: RowId,
}

impl Left<'_> {
    fn select(&self) -> SelectStatement {
        let none_before = self.without.iter().fold(Condition::all(), |all, matching| {
            all.add(Condition::all().add(matching.condition(SetForm::Exists)).not())
        });
        Query::select()
            .from(devices::Entity)
            .cond_where(self.of.condition(SetForm::In))
            .cond_where(none_before)
            .and_where(column(devices::Column::Id).gt(self.behind))
            .take()
    }
}

impl<C: ConnectionTrait> Db<C> {
    /// How many of the `devices` matching ones each wave would have, the last one of what is left as well:
    /// as the making of the rollout fills them.
    pub async fn cut_into_waves(&self, matching: &Matching, waves: &[NewWave], devices: u64) -> Result<Vec<u64>> {
        let mut left = Left { of: matching, without: Vec::new(), behind: 0 };
        let (mut sizes, mut rest) = (Vec::with_capacity(waves.len() + 1), devices);
        for (i, wave) in waves.iter().enumerate() {
            let is_any_filter_later = waves[i + 1..].iter().any(|wave| matches!(wave, NewWave::Matching(_)));
            let size = match wave {
                NewWave::Share(share) => {
                    let size = Ord::min(share.at_least(devices), rest);
                    if is_any_filter_later {
                        left.behind = self.row_at(&left, size).await?;
                    }
                    size
                }
                NewWave::Matching(own) => {
                    let size = self.count_of(left.select().cond_where(own.condition(SetForm::Exists)).take()).await?;
                    left.without.push(own);
                    Ord::min(size, rest)
                }
            };
            sizes.push(size);
            rest -= size;
        }
        sizes.push(rest);
        Ok(sizes)
    }

    async fn count_of(&self, mut which: SelectStatement) -> Result<u64> {
        let query = which.expr_as(Expr::cust("COUNT(*)"), "devices").take();
        let Some(row) = self.conn.query_one(&query).await? else { return Ok(0) };
        let devices: i64 = row.try_get("", "devices")?;
        Ok(devices.try_into().unwrap_or(0))
    }

    /// The row of the device at that place, from 1, of those that are left.
    async fn row_at(&self, left: &Left<'_>, place: u64) -> Result<RowId> {
        if place == 0 {
            return Ok(left.behind);
        }
        let query = left
            .select()
            .column((devices::Entity, devices::Column::Id))
            .order_by((devices::Entity, devices::Column::Id), Order::Asc)
            .offset(place - 1)
            .limit(1)
            .take();
        let row = self.conn.query_one(&query).await?;
        row.map_or(Ok(left.behind), |row| Ok(row.try_get("", "id")?))
    }
}
