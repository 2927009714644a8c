//! Names of trees in folders and in the checkpoint record: `<group>-<number>`, and
//! `.<generation>` when the number of a dropped tree is used again.

use journal::GroupId;

use super::TreeId;

/// The name of a tree's generation.
pub(super) fn format_name(
    TreeId {
        group: GroupId(group),
        number,
    }: TreeId,
    generation: u32,
) -> String {
    match generation {
        0 => format!("{group}-{number}"),
        generation => format!("{group}-{number}.{generation}"),
    }
}

/// A tree and its generation, of exactly the names that are given out.
pub(super) fn parse_name(name: &str) -> Option<(TreeId, u32)> {
    let (id, generation) = match name.split_once('.') {
        Some((id, generation)) => (id, generation.parse().ok()?),
        None => (name, 0),
    };
    let (group, number) = id.split_once('-')?;
    let id = TreeId {
        group: GroupId(group.parse().ok()?),
        number: number.parse().ok()?,
    };
    (format_name(id, generation) == name).then_some((id, generation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_names() {
        let id = TreeId {
            group: GroupId(3),
            number: 1000,
        };
        assert_eq!(format_name(id, 0), "3-1000");
        assert_eq!(parse_name("3-1000"), Some((id, 0)));
        assert_eq!(parse_name("3-1000.2"), Some((id, 2)));
        for bad in ["", "3", "3-", "03-1", "3-1.0", "3-1.x", "tmp"] {
            assert_eq!(parse_name(bad), None, "{bad}");
        }
    }
}
