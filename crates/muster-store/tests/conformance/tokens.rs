//! Tokens.

use std::time::Duration;

use muster_core::names::AccountName;
use muster_core::token::{Secret, TokenKind};
use muster_store::testing::TestDatabase;
use muster_store::tokens::{NewToken, Token};

use crate::fixture::{House, parsed};

on_both_engines!(
    a_token_is_found_by_its_secret_and_kind,
    a_token_expires_by_the_clock,
    a_revoked_token_is_gone,
    the_tokens_of_a_device_are_revoked_together,
    tokens_are_revoked_by_their_description,
    uses_are_limited,
);

async fn insert(house: &House, token: &NewToken) -> Secret {
    house.write(async |tx| tx.insert_token(token).await).await.unwrap()
}

async fn find(house: &House, kind: TokenKind, secret: &Secret) -> Option<Token> {
    house.store().read().find_token(kind, secret).await.unwrap()
}

async fn a_token_is_found_by_its_secret_and_kind(db: TestDatabase) {
    let house = House::on(db).await;
    let user = house.user("ada", true).await;
    for kind in TokenKind::ALL {
        let new = NewToken { user_id: Some(user.id), ..NewToken::of(kind, house.account, "for a test") };
        let secret = insert(&house, &new).await;
        let found = find(&house, kind, &secret).await.unwrap();
        assert_eq!((found.account_id, found.user_id, found.fleet_id), (house.account, Some(user.id), None));
        for other in TokenKind::ALL.into_iter().filter(|other| *other != kind) {
            assert_eq!(find(&house, other, &secret).await, None, "{kind:?} is no {other:?}");
        }
    }
    assert_eq!(find(&house, TokenKind::User, &Secret::received("' OR 1=1 --")).await, None);
}

async fn a_token_expires_by_the_clock(db: TestDatabase) {
    let house = House::on(db).await;
    let expires_at = house.db.clock().now().after(Duration::from_millis(2));
    let new = NewToken { expires_at, ..NewToken::of(TokenKind::Access, house.account, "") };
    let secret = insert(&house, &new).await;
    house.db.clock().advance(Duration::from_millis(1));
    assert!(find(&house, TokenKind::Access, &secret).await.is_some());
    house.db.clock().advance(Duration::from_millis(1));
    assert_eq!(find(&house, TokenKind::Access, &secret).await, None);
}

async fn a_revoked_token_is_gone(db: TestDatabase) {
    let house = House::on(db).await;
    let new = NewToken::of(TokenKind::User, house.account, "");
    let (ended, kept) = (insert(&house, &new).await, insert(&house, &new).await);
    let id = find(&house, TokenKind::User, &ended).await.unwrap().id;
    house.write(async |tx| tx.revoke_token(id).await).await.unwrap();
    house.write(async |tx| tx.revoke_token(id).await).await.unwrap();
    assert_eq!(find(&house, TokenKind::User, &ended).await, None);
    assert!(find(&house, TokenKind::User, &kept).await.is_some());
}

async fn the_tokens_of_a_device_are_revoked_together(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two) = (house.device("one").await, house.device("two").await);
    let of = |device_id| NewToken {
        device_id: Some(device_id),
        fleet_id: Some(house.fleet.id),
        ..NewToken::of(TokenKind::Device, house.account, "")
    };
    let secrets = [insert(&house, &of(one.id)).await, insert(&house, &of(one.id)).await];
    let other = insert(&house, &of(two.id)).await;
    assert_eq!(find(&house, TokenKind::Device, &secrets[0]).await.unwrap().device_id, Some(one.id));
    house.write(async |tx| tx.revoke_device_tokens(one.id).await).await.unwrap();
    for secret in &secrets {
        assert_eq!(find(&house, TokenKind::Device, secret).await, None);
    }
    assert!(find(&house, TokenKind::Device, &other).await.is_some());
}

async fn tokens_are_revoked_by_their_description(db: TestDatabase) {
    let house = House::on(db).await;
    let foreign = parsed(AccountName::parse("Other"));
    let foreign = house.write(async |tx| tx.insert_account(&foreign).await).await.unwrap();
    let of = |account, description| NewToken::of(TokenKind::Access, account, description);
    let ended = insert(&house, &of(house.account, "quickstart")).await;
    let kept = [insert(&house, &of(house.account, "other")).await, insert(&house, &of(foreign, "quickstart")).await];
    house.write(async |tx| tx.revoke_tokens_described(house.account, "quickstart").await).await.unwrap();
    assert_eq!(find(&house, TokenKind::Access, &ended).await, None);
    for secret in &kept {
        assert!(find(&house, TokenKind::Access, secret).await.is_some());
    }
}

async fn uses_are_limited(db: TestDatabase) {
    let house = House::on(db).await;
    let of = |uses_max| NewToken { uses_max, ..NewToken::of(TokenKind::Pairing, house.account, "") };
    let (limited, free) = (insert(&house, &of(Some(2))).await, insert(&house, &of(None)).await);
    for _ in 0..2 {
        for secret in [&limited, &free] {
            let id = find(&house, TokenKind::Pairing, secret).await.unwrap().id;
            house.write(async |tx| tx.count_use(id).await).await.unwrap();
        }
    }
    assert_eq!(find(&house, TokenKind::Pairing, &limited).await, None, "used up");
    assert!(find(&house, TokenKind::Pairing, &free).await.is_some());
}
