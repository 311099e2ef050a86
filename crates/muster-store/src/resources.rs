//! Resources that are no devices, and their tags. A resource is there while it bears one.

use std::collections::BTreeMap;

use muster_core::ids::RowId;
use muster_core::limits::RESOURCES_AT_ONCE_MAX;
use muster_core::names::{Region, ResourceId, ResourceUuid, ServiceType};
use muster_core::resource::Resource;
use sea_orm::sea_query::{Condition, Expr, ExprTrait, OnConflict, Query};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect};

use crate::db::{Db, Result, Tx};
use crate::entities::{resource_tags, tags};
use crate::page::{cut, page};

/// Rows of one statement: below both engines' limit on bound values.
const ROWS_MAX: usize = RESOURCES_AT_ONCE_MAX;

/// A tag that a resource is to bear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceTag {
    /// The resource.
    pub resource: Resource,
    /// Its second name; may be empty.
    pub uuid: ResourceUuid,
    /// The tag.
    pub tag_id: RowId,
}

/// A resource as one of its tags knows it.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct TaggedResource {
    /// The row of the tag on it.
    pub id: RowId,
    /// Its kind.
    pub service_type: String,
    /// Where it is.
    pub region: String,
    /// Which of that kind and place.
    pub resource_id: String,
    /// Its second name; may be empty.
    pub resource_uuid: String,
}

/// Which of a tag's resources are meant. Each narrows: `None` for whichever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AmongResources {
    /// Only of these kinds.
    pub service_types: Option<Vec<String>>,
    /// Only of these places.
    pub regions: Option<Vec<String>>,
    /// Only with these ids.
    pub resource_ids: Option<Vec<String>>,
}

/// To insert a tag that a resource bears already changes nothing.
pub(crate) fn skip_known() -> OnConflict {
    use resource_tags::Column as R;
    OnConflict::columns([R::AccountId, R::ResourceId, R::ServiceType, R::Region, R::TagId]).do_nothing().to_owned()
}

/// Ids of one kind and place, for a statement of their own: a row of three names is
/// compared in a list by neither engine in the same words.
fn in_places(resources: &[Resource]) -> Vec<(&ServiceType, &Region, Vec<&str>)> {
    let mut places: BTreeMap<(&ServiceType, &Region), Vec<&str>> = BTreeMap::new();
    for Resource { service_type, region, id } in resources {
        places.entry((service_type, region)).or_default().push(id.as_str());
    }
    let parts = places.into_iter().flat_map(|((kind, region), ids)| {
        ids.chunks(ROWS_MAX).map(|ids| (kind, region, ids.to_vec())).collect::<Vec<_>>()
    });
    parts.collect()
}

fn in_place(account_id: RowId, (service_type, region, ids): &(&ServiceType, &Region, Vec<&str>)) -> Condition {
    use resource_tags::Column as R;
    Condition::all()
        .add(R::AccountId.eq(account_id))
        .add(R::ServiceType.eq(service_type.as_str()))
        .add(R::Region.eq(region.as_str()))
        .add(R::ResourceId.is_in(ids.iter().copied()))
}

impl<C: ConnectionTrait> Db<C> {
    /// The names of each resource's tags in the order of their making. A statement for
    /// each kind and place.
    pub async fn tags_of_resources(
        &self,
        account_id: RowId,
        resources: &[Resource],
    ) -> Result<Vec<(Resource, String)>> {
        use resource_tags::Column as R;
        let mut found = Vec::new();
        for place in in_places(resources) {
            let query = Query::select()
                .column((resource_tags::Entity, R::ResourceId))
                .column((tags::Entity, tags::Column::Name))
                .from(resource_tags::Entity)
                .inner_join(
                    tags::Entity,
                    Expr::col((tags::Entity, tags::Column::Id)).equals((resource_tags::Entity, R::TagId)),
                )
                .cond_where(in_place(account_id, &place))
                .order_by((resource_tags::Entity, R::TagId), sea_orm::sea_query::Order::Asc)
                .take();
            for row in self.conn.query_all(&query).await? {
                found.push((named(&place, row.try_get("", "resource_id")?)?, row.try_get("", "name")?));
            }
        }
        Ok(found)
    }

    /// The second names of those resources that have one.
    pub async fn uuids_of_resources(
        &self,
        account_id: RowId,
        resources: &[Resource],
    ) -> Result<Vec<(Resource, ResourceUuid)>> {
        use resource_tags::Column as R;
        let mut found = Vec::new();
        for place in in_places(resources) {
            let query = resource_tags::Entity::find()
                .select_only()
                .columns([R::ResourceId, R::ResourceUuid])
                .distinct()
                .filter(in_place(account_id, &place))
                .filter(R::ResourceUuid.ne(""))
                .order_by_asc(R::ResourceId);
            for (id, uuid) in query.into_tuple::<(String, String)>().all(&self.conn).await? {
                found.push((named(&place, id)?, ResourceUuid::parse(uuid)?));
            }
        }
        Ok(found)
    }

    /// The next `limit` resources with a tag behind the row `after`, in the order in which
    /// they got it, and whether there are more.
    pub async fn tagged_resources_page(
        &self,
        tag_id: RowId,
        among: &AmongResources,
        after: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<TaggedResource>, bool)> {
        use resource_tags::Column as R;
        let of = |column: R| (resource_tags::Entity, column);
        let mut query = Query::select()
            .columns([R::Id, R::ServiceType, R::Region, R::ResourceId, R::ResourceUuid].map(of))
            .from(resource_tags::Entity)
            .and_where(Expr::col(of(R::TagId)).eq(tag_id))
            .take();
        let narrowed =
            [(R::ServiceType, &among.service_types), (R::Region, &among.regions), (R::ResourceId, &among.resource_ids)];
        for (column, names) in narrowed {
            if let Some(names) = names {
                query.and_where(Expr::col(of(column)).is_in(names));
            }
        }
        let (rows, is_more) = cut(self.conn.query_all(&page(query, of(R::Id), after, limit)).await?, limit);
        let found = rows.iter().map(|row| Ok(TaggedResource::from_query_result(row, "")?));
        Ok((found.collect::<Result<_>>()?, is_more))
    }
}

fn named((service_type, region, _): &(&ServiceType, &Region, Vec<&str>), id: String) -> Result<Resource> {
    Ok(Resource { service_type: (*service_type).clone(), region: (*region).clone(), id: ResourceId::parse(id)? })
}

impl Tx {
    /// Puts tags on resources, and says how many were new. A statement for each thousand.
    pub async fn tag_resources(&self, account_id: RowId, links: &[ResourceTag]) -> Result<u64> {
        use resource_tags::Column as R;
        let mut made = 0;
        for links in links.chunks(ROWS_MAX) {
            let columns = [R::TagId, R::Id, R::AccountId, R::ServiceType, R::Region, R::ResourceId, R::ResourceUuid];
            let mut insert = Query::insert().into_table(resource_tags::Entity).columns(columns).take();
            for ResourceTag { resource, uuid, tag_id } in links {
                insert.values_panic([
                    (*tag_id).into(),
                    self.next_id().into(),
                    account_id.into(),
                    resource.service_type.as_str().into(),
                    resource.region.as_str().into(),
                    resource.id.as_str().into(),
                    uuid.as_str().into(),
                ]);
            }
            made += self.conn.execute(insert.on_conflict(skip_known())).await?.rows_affected();
        }
        Ok(made)
    }

    /// Takes a tag off resources, and says off how many. A statement for each kind and place.
    pub async fn untag_resources(&self, account_id: RowId, tag_id: RowId, resources: &[Resource]) -> Result<u64> {
        let mut removed = 0;
        for place in in_places(resources) {
            let delete = resource_tags::Entity::delete_many()
                .filter(in_place(account_id, &place))
                .filter(resource_tags::Column::TagId.eq(tag_id));
            removed += delete.exec(&self.conn).await?.rows_affected;
        }
        Ok(removed)
    }

    /// Takes every tag off resources, and says how many those were. A statement for each
    /// kind and place.
    pub async fn clear_tags_of_resources(&self, account_id: RowId, resources: &[Resource]) -> Result<u64> {
        let mut removed = 0;
        for place in in_places(resources) {
            let delete = resource_tags::Entity::delete_many().filter(in_place(account_id, &place));
            removed += delete.exec(&self.conn).await?.rows_affected;
        }
        Ok(removed)
    }
}
