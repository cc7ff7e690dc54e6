use tidegate_config::{MirrorSpec, TargetId, Weight};

/// A mirror to the target `shadow`, with the defaults of a file.
pub(super) fn spec() -> MirrorSpec {
    MirrorSpec {
        to: TargetId::parse("shadow").unwrap(),
        percent: Weight::FULL,
        methods: vec!["*".to_owned()],
        max_body: 64 * 1024,
        compare: false,
        ignore: Vec::new(),
        remove_headers: Vec::new(),
        set_headers: std::collections::BTreeMap::new(),
    }
}
