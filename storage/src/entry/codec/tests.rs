//! Golden bytes, round trips, and bytes from outside.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::ErasedImage;
use super::*;

fn header() -> Header {
    Header {
        epoch: Term(7),
        prev: Position(0x1111),
        position: Position(0x2222),
        txid: TxId(0x3333),
        meta: Meta {
            role: "orders".into(),
            login: "app".into(),
            application_name: "shop".into(),
            trace: "00-ab".into(),
            hops: 2,
        },
        deps: vec![(GroupId(3), Position(0x44))],
        images: 0,
        parts: None,
        outcome: true,
    }
}

fn change() -> Change {
    let index = IndexWrite {
        tree: 1001,
        key: Bytes::from_static(b"ix"),
        value: Some(Bytes::new()),
    };
    let gone = IndexWrite {
        tree: 1001,
        key: Bytes::from_static(b"iy"),
        value: None,
    };
    Change {
        seq: 1,
        tree: 1000,
        feed: true,
        key: Bytes::from_static(b"k"),
        old: None,
        new: Some(Bytes::from_static(b"row")),
        index: vec![index, gone],
        erase: false,
    }
}

fn hex(payload: &Payload) -> Vec<String> {
    let line = |image: journal::Result<Bytes>| {
        image
            .expect("whole")
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    };
    payload.images().map(line).collect()
}

#[test]
fn golden_bytes() {
    let event = Event {
        seq: 2,
        kind: EventKind::Message,
        name: "order.placed".into(),
        table: Some(1000),
        payload: Bytes::from_static(b"{}"),
        about: Vec::new(),
    };
    let row = Event {
        seq: 3,
        kind: EventKind::Row,
        name: String::new(),
        table: Some(1003),
        payload: Bytes::from_static(b"row"),
        about: vec![RowKey {
            tree: 1000,
            key: Bytes::from_static(b"k"),
        }],
    };
    let entry = Entry {
        header: header(),
        changes: vec![change()],
        events: vec![event, row],
        dropped_trees: vec![1002],
        abandoned: vec![TxId(5)],
        close: true,
        erased: Vec::new(),
    };
    assert_eq!(
        hex(&entry.encode()),
        [
            concat!(
                "01010200", "01000000", "e8030000", "01000000", "ffffffff", "03000000", "6b",
                "726f77", "e9030000", "02000000", "00000000", "6978", "e9030000", "02000000",
                "ffffffff", "6979"
            ),
            concat!(
                "02010100",
                "02000000",
                "e8030000",
                "0c000000",
                "02000000",
                "6f726465722e706c61636564",
                "7b7d"
            ),
            concat!(
                "02030101", "03000000", "eb030000", "00000000", "03000000", "726f77", "e8030000",
                "01000000", "6b"
            ),
            "03000000ea030000",
            "07000000000000000500000000000000",
            "04000000",
            concat!(
                "06020100",
                "06000000",
                "0700000000000000",
                "1111000000000000",
                "2222000000000000",
                "3333000000000000",
                "0000000000000000",
                "00000000",
                "01000000",
                "03000000",
                "00000000",
                "4400000000000000",
                "02000000",
                "06000000",
                "6f7264657273",
                "03000000",
                "617070",
                "04000000",
                "73686f70",
                "05000000",
                "30302d6162"
            ),
        ]
    );
}

fn removal() -> Change {
    Change {
        old: Some(Bytes::from_static(b"row")),
        new: None,
        index: change().index.split_off(1),
        erase: true,
        ..change()
    }
}

#[test]
fn golden_bytes_of_a_removal() {
    let entry = Entry {
        changes: vec![removal()],
        ..Entry::default()
    };
    assert_eq!(
        hex(&entry.encode())[..2],
        [
            "0107000001000000e803000001000000ffffffffffffffff6b",
            concat!(
                "08000100", "01000000", "e8030000", "03000000", "726f77", "e9030000", "02000000",
                "ffffffff", "6979"
            ),
        ]
    );
}

/// The payload with an image overwritten as the journal does it.
fn without(payload: &Payload, number: usize, left: &Erased) -> Payload {
    let mut bytes = payload.as_bytes().to_vec();
    let len = |image: journal::Result<Bytes>| match image {
        Ok(bytes) | Err(journal::Error::Erased { left: bytes }) => bytes.len(),
        Err(error) => panic!("{error}"),
    };
    let at: usize = payload.images().take(number).map(|i| len(i) + 8).sum();
    let len = len(payload.image(number).expect("there"));
    let image = &mut bytes[at..at + 8 + len];
    image[8..].fill(0);
    let left = left.encode();
    let left = &left[..left.len().min(len)];
    image[8..8 + left.len()].copy_from_slice(left);
    image[4..8].copy_from_slice(&(len as u32 | 1 << 31).to_le_bytes());
    let crc = crc32fast::hash(&image[4..]);
    image[..4].copy_from_slice(&crc.to_le_bytes());
    Payload::from_bytes(bytes.into()).expect("whole")
}

#[test]
fn of_what_is_erased_is_read_what_was_left() {
    let entry = Entry {
        changes: vec![change(), removal()],
        ..Entry::default()
    };
    let payload = entry.encode();
    let erased = |what| Erased {
        what,
        seq: 1,
        tree: 1000,
        feed: true,
        at: Position(9),
    };
    let left = erased(ErasedImage::Change);
    let read = Entry::decode(&without(&payload, 0, &left)).expect("whole");
    assert_eq!(
        (&read.changes[..], &read.erased[..]),
        (&[removal()][..], &[left][..])
    );
    let left = erased(ErasedImage::Rest);
    let read = Entry::decode(&without(&payload, 2, &left)).expect("whole");
    let bare = Change {
        old: None,
        index: Vec::new(),
        ..removal()
    };
    assert_eq!(read.changes, [change(), bare]);
    assert_eq!(read.erased[0].what, ErasedImage::Rest);
    let gone = erased(ErasedImage::Removal);
    let both = without(&without(&payload, 1, &gone), 2, &left);
    let read = Entry::decode(&both).expect("whole");
    assert_eq!(read.changes, [change()]);
    assert_eq!(read.erased[0], gone);
    // The rest alone, of a removal that is gone, is nobody's.
    assert_eq!(
        Entry::decode(&without(&payload, 1, &gone))
            .expect("whole")
            .changes,
        [change()]
    );
}

/// What the version before has written: a removal in one image.
#[test]
fn a_removal_of_version_1_is_read() {
    let hex = concat!(
        "01010100", "01000000", "e8030000", "01000000", "03000000", "ffffffff", "6b", "726f77",
        "e9030000", "02000000", "ffffffff", "6979"
    );
    let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex");
    let image: Vec<u8> = (0..hex.len() / 2).map(byte).collect();
    let header = Entry {
        header: header(),
        ..Entry::default()
    };
    let header = header.encode().image(0).expect("one").expect("whole");
    let mut header = header.to_vec();
    (header[1], header[4]) = (1, 1);
    let payload = Payload::builder().push(&image).push(&header).finish();
    let read = Entry::decode(&payload).expect("known");
    let erase = false;
    assert_eq!(read.changes, [Change { erase, ..removal() }]);
}

#[test]
fn events_come_back_with_what_they_are_about() {
    let about = |tree, key: &'static [u8]| RowKey {
        tree,
        key: Bytes::from_static(key),
    };
    let event = |kind, about| Event {
        seq: 1,
        kind,
        name: String::new(),
        table: Some(1000),
        payload: Bytes::from_static(b"row"),
        about,
    };
    let mut entry = Entry {
        header: header(),
        events: vec![
            event(EventKind::Ddl, Vec::new()),
            event(EventKind::Row, vec![about(1, b""), about(2, b"key")]),
            event(
                EventKind::Row,
                vec![about(u32::MAX, b"k"); crate::ABOUT_MAX],
            ),
        ],
        ..Entry::default()
    };
    let payload = entry.encode();
    entry.header.images = 3;
    assert_eq!(Entry::decode(&payload).expect("whole"), entry);
}

#[test]
fn golden_bytes_of_a_part() {
    let mut builder = EntryBuilder::new();
    builder.change(&Change {
        index: Vec::new(),
        ..change()
    });
    let header = PartHeader {
        epoch: Term(7),
        txid: TxId(9),
        number: 3,
        images: 0,
    };
    let payload = builder.finish_part(header);
    assert_eq!(
        hex(&payload),
        [
            "010100000100000".to_owned() + "0e803000001000000ffffffff030000006b726f77",
            "0502000001000000070000000000000009000000000000000300000000000000".to_owned(),
        ]
    );
    let part = Part::decode(&payload).expect("whole");
    assert_eq!(
        part.header,
        PartHeader {
            images: 1,
            ..header
        }
    );
    assert_eq!(
        part.changes,
        [Change {
            index: Vec::new(),
            ..change()
        }]
    );
}

#[test]
fn the_header_can_be_read_alone() {
    let entry = Entry {
        header: header(),
        changes: vec![change()],
        ..Entry::default()
    };
    let payload = entry.encode();
    let expected = Header {
        images: 1,
        ..header()
    };
    assert_eq!(Entry::decode_header(&payload).expect("whole"), expected);
}

#[test]
fn an_entry_without_its_header_or_with_missing_images_is_refused() {
    let payload = Entry {
        header: header(),
        changes: vec![change()],
        ..Entry::default()
    }
    .encode();
    let images: Vec<Bytes> = payload
        .images()
        .map(|image| image.expect("whole"))
        .collect();
    for kept in [
        &images[..1],
        &images[1..],
        &[images[1].clone(), images[0].clone()][..],
        &[],
    ] {
        let mut builder = Payload::builder();
        kept.iter().for_each(|image| {
            builder.push(image);
        });
        assert!(
            Entry::decode(&builder.finish()).is_err(),
            "{} images",
            kept.len()
        );
    }
}

#[test]
fn a_newer_version_is_named() {
    let mut image = Entry {
        header: header(),
        ..Entry::default()
    }
    .encode()
    .image(0)
    .expect("one");
    let bytes = image.as_mut().expect("whole");
    let mut newer = bytes.to_vec();
    newer[1] = 3;
    let error = Entry::decode(&Payload::of(&newer)).expect_err("newer");
    assert_eq!(
        error.to_string(),
        "entry of version 3, this program knows 1 to 2"
    );
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn any_change() -> impl Strategy<Value = Change> {
    let value = || proptest::option::of(any_bytes());
    let index = (any::<u32>(), any_bytes(), value()).prop_map(|(tree, key, value)| IndexWrite {
        tree,
        key,
        value,
    });
    (
        any::<u32>(),
        any::<u32>(),
        any::<bool>(),
        any_bytes(),
        value(),
        value(),
        vec(index, 0..4),
        any::<bool>(),
    )
        .prop_map(|(seq, tree, feed, key, old, new, index, erase)| Change {
            erase: erase && new.is_none(),
            seq,
            tree,
            feed,
            key,
            old,
            new,
            index,
        })
}

proptest! {
    #[test]
    fn round_trip(changes in vec(any_change(), 0..6), dropped in vec(any::<u32>(), 0..3),
                  deps in vec((any::<u32>(), any::<u64>()), 0..3), role in ".*",
                  parts in proptest::option::of((any::<u32>(), any::<u64>()))) {
        let mut header = header();
        header.meta.role = role;
        header.deps = deps.into_iter().map(|(g, p)| (GroupId(g), Position(p))).collect();
        header.parts = parts.map(|(parts, changes)| PartsRef { parts, changes });
        let mut entry =
            Entry { header, changes, dropped_trees: dropped, ..Entry::default() };
        let payload = entry.encode();
        let two = |c: &&Change| c.new.is_none() && (c.old.is_some() || !c.index.is_empty());
        let rests = entry.changes.iter().filter(two).count();
        entry.header.images = (entry.changes.len() + rests + entry.dropped_trees.len()) as u32;
        prop_assert_eq!(Entry::decode(&payload).expect("whole"), entry);
    }

    #[test]
    fn no_bytes_make_it_panic(images in vec(vec(any::<u8>(), 0..80), 0..3), kinds in vec(0u8..8, 3)) {
        let mut builder = Payload::builder();
        for (image, kind) in images.iter().zip(kinds) {
            let mut image = image.clone();
            if let Some(first) = image.first_mut() {
                *first = kind;
            }
            builder.push(&image);
        }
        let payload = builder.finish();
        let _ = (Entry::decode(&payload), Part::decode(&payload), Entry::decode_header(&payload));
    }

    #[test]
    fn a_cut_image_is_an_error(change in any_change(), cut in any::<proptest::sample::Index>()) {
        let payload = Entry { header: header(), changes: vec![change], ..Entry::default() }.encode();
        let mut images: Vec<Bytes> = payload.images().map(|i| i.expect("whole")).collect();
        let at = cut.index(images[0].len());
        images[0].truncate(at);
        let mut builder = Payload::builder();
        images.iter().for_each(|image| { builder.push(image); });
        prop_assert!(Entry::decode(&builder.finish()).is_err());
    }
}
