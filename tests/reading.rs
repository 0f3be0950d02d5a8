//! Reading promises: what is in a file is read, what is not text is named, and nothing is fatal to the others.
#![cfg(feature = "ingest")]

use std::io::{Cursor, Write};
use std::path::Path;

use stratal::Id;
use stratal::ingest::{
    Compression, FieldNames, IngestError, JsonLines, NpyElement, NpyProblem, NpyReader, NpyWriter,
    SkipReason, SourceKind, TextFile, walk,
};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

type Read = (Vec<(u64, Id)>, Vec<String>);

fn read(bytes: Vec<u8>, compression: Compression, limit: usize) -> Read {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for item in JsonLines::with_line_limit(
        "f.jsonl",
        Cursor::new(bytes),
        compression,
        FieldNames::default(),
        limit,
    ) {
        match item {
            Ok(record) => good.push((record.line, record.id)),
            Err(error) => bad.push(error.to_string()),
        }
    }
    (good, bad)
}

// B60
#[test]
fn lines_are_counted_as_an_editor_counts_them_in_every_compression() {
    let text = "\u{feff}{\"id\":1}\r\n{\"id\":\"two\"}\n\n \t\r\nnot json\n[1]\r\n{\"id\":7}\n{\"id\":1}\n{\"id\":\"é\"}";
    let expected = vec![
        (1, Id::Number(1)),
        (2, Id::from("two")),
        (7, Id::Number(7)),
        (9, Id::from("é")),
    ];
    let bytes = text.as_bytes();
    // Several members, or frames, one of them empty: files that were joined.
    let (head, tail) = bytes.split_at(25);
    let members = [gzip(head), gzip(b""), gzip(tail)].concat();
    let skippable = [
        &b"\x5a\x2a\x4d\x18\x03\0\0\0abc"[..],
        &zstd(head),
        b"\x50\x2a\x4d\x18\0\0\0\0",
        &zstd(tail),
    ]
    .concat();
    for (bytes, compression) in [
        (bytes.to_vec(), Compression::None),
        (gzip(bytes), Compression::Gzip),
        (members, Compression::Gzip),
        (zstd(bytes), Compression::Zstd),
        (skippable, Compression::Zstd),
    ] {
        let (good, bad) = read(bytes, compression, 1 << 20);
        assert_eq!(good, expected, "{compression:?}");
        assert_eq!(bad.len(), 3, "{bad:?}");
        assert!(bad[0].starts_with("f.jsonl:5: not JSON"), "{bad:?}");
        assert!(
            bad[1].starts_with("f.jsonl:6: a list, where an object"),
            "{bad:?}"
        );
        assert_eq!(
            bad[2],
            "f.jsonl:8: the id 1 again, which line 1 has: ids are unique in a file"
        );
    }
    assert_eq!(read(Vec::new(), Compression::None, 10), (vec![], vec![]));
    assert_eq!(
        read(b"\xef\xbb\xbf".to_vec(), Compression::None, 10),
        (vec![], vec![])
    );
}

#[test]
fn a_line_past_the_limit_is_one_bad_line() {
    let long = format!("{{\"id\":2,\"text\":\"{}\"}}", "x".repeat(100_000));
    let text = format!("{{\"id\":1}}\n{long}\n{{\"id\":3}}\r\n{long}");
    let (good, bad) = read(text.into_bytes(), Compression::None, 1_000);
    assert_eq!(good, vec![(1, Id::Number(1)), (3, Id::Number(3))]);
    assert_eq!(bad.len(), 2);
    assert!(bad[1].starts_with("f.jsonl:4: longer than 1000 bytes"), "{bad:?}");
    // Exactly as long as allowed, with every kind of end.
    for end in ["", "\n", "\r\n"] {
        let line = "{\"id\":1}";
        let (good, bad) = read(format!("{line}{end}").into_bytes(), Compression::None, line.len());
        assert_eq!((good.len(), bad.len()), (1, 0), "{end:?}");
    }
}

#[test]
fn bytes_that_are_no_text_are_one_bad_line() {
    let (good, bad) = read(
        b"{\"id\":\"caf\xe9\"}\n{\"id\":2}\n".to_vec(),
        Compression::None,
        1_000,
    );
    assert_eq!(good, vec![(2, Id::Number(2))]);
    assert!(bad[0].starts_with("f.jsonl:1: not UTF-8 at byte 10"), "{bad:?}");
}

#[test]
fn a_compressed_file_cut_anywhere_ends_in_an_error_after_its_good_lines() {
    let text: String = (0..3_000)
        .map(|n| format!("{{\"id\":{n},\"h\":\"{:x}\"}}\n", n * 7_919 % 1_000_003))
        .collect();
    for (whole, compression) in [
        (gzip(text.as_bytes()), Compression::Gzip),
        (zstd(text.as_bytes()), Compression::Zstd),
    ] {
        assert_eq!(read(whole.clone(), compression, 1_000).0.len(), 3_000);
        for cut in [1, 3, 7, 11, whole.len() / 2, whole.len() - 5, whole.len() - 1] {
            let lines = JsonLines::from_reader(
                "f",
                Cursor::new(whole[..cut].to_vec()),
                compression,
                FieldNames::default(),
            );
            let items: Vec<_> = lines.collect();
            let errors = items.iter().filter(|item| item.is_err()).count();
            assert!(
                matches!(items.last(), Some(Err(IngestError::Compressed { .. }))) && errors == 1,
                "{compression:?} cut at {cut}: {:?}",
                items.last()
            );
        }
        let mut garbage = whole.clone();
        let middle = garbage.len() / 2;
        garbage[middle] ^= 0x55;
        assert!(
            !read(garbage, compression, 1_000).1.is_empty(),
            "{compression:?}: a flipped bit is told"
        );
        assert_eq!(
            read(text.clone().into_bytes(), compression, 1_000).1.len(),
            1,
            "not compressed at all"
        );
    }
}

#[test]
fn vectors_read_from_json_are_the_f32_that_were_written() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..20_000 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let value = f32::from_bits((state >> 32) as u32);
        if !value.is_finite() {
            continue;
        }
        let line = format!(
            "{{\"id\":1,\"vector\":{}}}",
            serde_json::to_string(&[value]).unwrap()
        );
        let record = stratal::ingest::Record::parse(&line, 1, &FieldNames::default()).unwrap();
        assert_eq!(record.vectors.unwrap()[0][0].to_bits(), value.to_bits(), "{line}");
    }
}

#[test]
fn a_folder_is_walked_in_the_order_of_names() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("b/inner")).unwrap();
    std::fs::create_dir_all(at(".git")).unwrap();
    for name in [
        "b/z.md",
        "b/inner/k.txt",
        "a.md",
        "c.jsonl.gz",
        "B.rst",
        "code.rs",
        ".hidden.md",
        ".git/x.md",
    ] {
        std::fs::write(at(name), "x").unwrap();
    }
    let (found, skipped) = split(folder.path());
    assert_eq!(found, ["B.rst", "a.md", "b/inner/k.txt", "b/z.md", "c.jsonl.gz"]);
    assert_eq!(skipped.len(), 3);
    assert!(skipped.iter().all(|(_, reason)| !reason.is_trouble()));
    let one = walk(&at("code.rs")).unwrap().next().unwrap().unwrap();
    assert_eq!((one.name.as_str(), one.kind), ("code.rs", SourceKind::Text));
    assert_eq!(
        walk(&at(".hidden.md")).unwrap().next().unwrap().unwrap().name,
        ".hidden.md"
    );
    assert!(matches!(walk(&at("nothing")), Err(IngestError::Io { .. })));
}

fn split(folder: &Path) -> (Vec<String>, Vec<(String, SkipReason)>) {
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    for item in walk(folder).unwrap() {
        match item {
            Ok(file) => found.push(file.name),
            Err(skip) => {
                let name = skip.path.file_name().unwrap().to_string_lossy().into_owned();
                skipped.push((name, skip.reason));
            }
        }
    }
    (found, skipped)
}

// B65
#[cfg(unix)]
#[test]
fn what_cannot_be_read_is_named_and_stops_nothing() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("sub")).unwrap();
    std::fs::write(at("good.md"), "# Good\n\ntext").unwrap();
    std::fs::write(at("sub/good.txt"), "text").unwrap();
    std::fs::write(at("latin.txt"), b"caf\xe9").unwrap();
    std::fs::write(at("image.md"), b"\x89PNG\r\n\x1a\n\0\0").unwrap();
    std::fs::write(at("locked.md"), "x").unwrap();
    std::fs::set_permissions(at("locked.md"), std::fs::Permissions::from_mode(0o000)).unwrap();
    std::fs::write(
        folder.path().join(std::ffi::OsStr::from_bytes(b"na\xffme.md")),
        "x",
    )
    .unwrap();
    std::fs::write(outside.path().join("far.md"), "far").unwrap();
    symlink(at("nowhere"), at("dangling.md")).unwrap();
    symlink("itself.md", at("itself.md")).unwrap();
    symlink("pong.md", at("ping.md")).unwrap();
    symlink("ping.md", at("pong.md")).unwrap();
    symlink(folder.path(), at("sub/up")).unwrap();
    symlink(folder.path().parent().unwrap(), at("above")).unwrap();
    symlink(at("good.md"), at("again.md")).unwrap();
    symlink(outside.path(), at("far")).unwrap();
    symlink(outside.path(), at("far2")).unwrap();
    symlink(folder.path(), outside.path().join("back")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(at("socket.md"));
    let (found, skipped) = split(folder.path());
    let reason = |name: &str| {
        let found = skipped.iter().find(|(skipped, _)| skipped == name);
        found
            .map(|(_, reason)| reason.clone())
            .unwrap_or_else(|| panic!("{name} in {skipped:?}"))
    };
    assert_eq!(
        found,
        [
            "good.md",
            "image.md",
            "latin.txt",
            "locked.md",
            "sub/good.txt",
            "far/far.md"
        ]
    );
    assert_eq!(reason("na\u{fffd}me.md"), SkipReason::Name);
    assert_eq!(reason("dangling.md"), SkipReason::DanglingLink);
    for looping in ["itself.md", "ping.md", "pong.md", "up", "above"] {
        assert_eq!(reason(looping), SkipReason::LoopingLink, "{looping}");
    }
    assert!(matches!(reason("again.md"), SkipReason::ReadElsewhere { .. }));
    assert!(matches!(reason("far2"), SkipReason::ReadElsewhere { .. }));
    assert!(matches!(
        reason("back"),
        SkipReason::ReadElsewhere { .. } | SkipReason::LoopingLink
    ));
    if socket.is_ok() {
        assert_eq!(reason("socket.md"), SkipReason::Special);
    }
    let read = |name: &str| TextFile::read(&at(name)).map_err(|skip| skip.reason);
    assert_eq!(read("latin.txt"), Err(SkipReason::NotUtf8 { offset: 3 }));
    assert_eq!(read("image.md"), Err(SkipReason::Binary));
    match read("locked.md") {
        Err(SkipReason::Unreadable { .. }) => {}
        // The superuser reads everything.
        Ok(file) => assert_eq!(file.text, "x"),
        other => panic!("{other:?}"),
    }
}

/// A `.npy` file as NumPy would write it.
fn npy(version: u8, dictionary: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend_from_slice(&[version, 0]);
    let header = format!("{dictionary}\n");
    match version {
        1 => bytes.extend_from_slice(&(header.len() as u16).to_le_bytes()),
        _ => bytes.extend_from_slice(&(header.len() as u32).to_le_bytes()),
    }
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

fn rows(bytes: &[u8]) -> Result<Vec<Vec<f32>>, NpyProblem> {
    let problem = |error| match error {
        IngestError::Npy { problem, .. } => problem,
        other => panic!("{other}"),
    };
    let mut reader = NpyReader::new(bytes, bytes.len() as u64, "f.npy").map_err(problem)?;
    let mut rows = Vec::new();
    while let Some(row) = reader.next_row().map_err(problem)? {
        rows.push(row);
    }
    Ok(rows)
}

// B67
#[test]
fn arrays_are_read_right_or_refused_by_name() {
    let numbers = [1.0f32, -2.5, 0.0, 4.0, 65_504.0, 0.25];
    let little: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    let expected = vec![numbers[..3].to_vec(), numbers[3..].to_vec()];
    let header = |descr: &str, fortran: &str, shape: &str| {
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}")
    };
    for version in 1..=3 {
        assert_eq!(
            rows(&npy(version, &header("<f4", "False", "(2, 3)"), &little)),
            Ok(expected.clone())
        );
    }
    let big: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
    assert_eq!(
        rows(&npy(1, &header(">f4", "False", "(2, 3)"), &big)),
        Ok(expected.clone())
    );
    let double: Vec<u8> = numbers.iter().flat_map(|&n| f64::from(n).to_le_bytes()).collect();
    assert_eq!(
        rows(&npy(1, &header("<f8", "False", "(2, 3)"), &double)),
        Ok(expected.clone())
    );
    let half: Vec<u8> = numbers
        .iter()
        .flat_map(|&n| half::f16::from_f32(n).to_le_bytes())
        .collect();
    assert_eq!(
        rows(&npy(1, &header("<f2", "False", "(2, 3)"), &half)),
        Ok(expected.clone())
    );
    let half: Vec<u8> = numbers
        .iter()
        .flat_map(|&n| half::f16::from_f32(n).to_be_bytes())
        .collect();
    assert_eq!(
        rows(&npy(1, &header(">f2", "False", "(2L, 3L)"), &half)),
        Ok(expected.clone())
    );
    assert_eq!(
        rows(&npy(1, &header("<f4", "False", "(1, 3, 2)"), &little)),
        Ok(vec![numbers.to_vec()])
    );
    assert_eq!(
        rows(&npy(
            1,
            "{\"shape\":(0,3),\"descr\":\"<f4\",\"fortran_order\":False}",
            b""
        )),
        Ok(vec![])
    );

    let refused = |dictionary: &str| rows(&npy(1, dictionary, &little)).unwrap_err();
    assert_eq!(
        refused(&header("<f4", "True", "(2, 3)")),
        NpyProblem::FortranOrder
    );
    for (descr, shown) in [
        ("|O", "|O"),
        ("<i4", "<i4"),
        ("|S4", "|S4"),
        ("<c8", "<c8"),
        ("=f4", "=f4"),
    ] {
        assert_eq!(
            refused(&header(descr, "False", "(2, 3)")),
            NpyProblem::ElementType {
                descr: shown.to_owned()
            }
        );
    }
    let records = "{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (6,)}";
    assert!(matches!(refused(records), NpyProblem::ElementType { .. }));
    for (shape, numbers) in [
        ("(6,)", vec![6]),
        ("()", vec![]),
        ("(6, 0)", vec![6, 0]),
        ("(1, 1, 2, 3)", vec![1, 1, 2, 3]),
    ] {
        assert_eq!(
            refused(&header("<f4", "False", shape)),
            NpyProblem::Shape { shape: numbers }
        );
    }
    for shape in ["(2, 4)", "(2, 2)", "(1099511627776, 3)"] {
        assert!(
            matches!(refused(&header("<f4", "False", shape)), NpyProblem::Length { .. }),
            "{shape}"
        );
    }
    for broken in [
        header("<f4", "False", "(18446744073709551615, 18446744073709551615)"),
        header("<f4", "False", "(99999999999999999999, 1)"),
        header("<f4", "Perhaps", "(2, 3)"),
        header("<f4", "False", "(2, 3"),
        "{'descr': '<f4', 'shape': (2, 3)}".to_owned(),
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'x': 1}".to_owned(),
        "{}, 1".to_owned(),
        String::new(),
    ] {
        assert!(
            matches!(refused(&broken), NpyProblem::Header { .. }),
            "{broken}: {:?}",
            refused(&broken)
        );
    }
    let whole = npy(1, &header("<f4", "False", "(2, 3)"), &little);
    for cut in 0..whole.len() {
        assert!(rows(&whole[..cut]).is_err(), "cut at {cut}");
    }
    let mut newer = whole.clone();
    newer[6] = 4;
    assert_eq!(rows(&newer), Err(NpyProblem::Version { major: 4, minor: 0 }));
    assert_eq!(rows(b"PK\x03\x04 an archive of arrays"), Err(NpyProblem::Magic));
}

// B24
#[test]
fn an_array_with_a_number_that_is_not_finite_names_row_layer_and_component() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e39] {
        let mut numbers = vec![0.5f64; 20 * 2 * 3];
        numbers[17 * 6 + 4] = bad;
        let data: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        let bytes = npy(
            1,
            "{'descr': '<f8', 'fortran_order': False, 'shape': (20, 2, 3), }",
            &data,
        );
        let mut reader = NpyReader::new(&bytes[..], bytes.len() as u64, "f.npy").unwrap();
        let (mut good, mut bad_rows) = (0, Vec::new());
        loop {
            match reader.next_row() {
                Ok(None) => break,
                Ok(Some(_)) => good += 1,
                Err(IngestError::Npy {
                    problem:
                        NpyProblem::Component {
                            row,
                            layer,
                            component,
                            ..
                        },
                    ..
                }) => {
                    bad_rows.push((row, layer, component));
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!((good, bad_rows), (19, vec![(17, 1, 1)]));
    }
}

#[test]
fn arrays_written_are_read_back_by_us_and_by_numpy() {
    let folder = tempfile::tempdir().unwrap();
    let mut script = String::from("import numpy\n");
    for element in [NpyElement::F16, NpyElement::F32, NpyElement::F64] {
        for layers in [1usize, 2] {
            for count in [0usize, 1, 3] {
                let path = folder.path().join(format!("{element:?}-{layers}-{count}.npy"));
                let mut writer = NpyWriter::create(&path, layers, 4, element).unwrap();
                let rows: Vec<Vec<f32>> = (0..count)
                    .map(|row| (0..layers * 4).map(|n| (row * 100 + n) as f32 / 4.0).collect())
                    .collect();
                for row in &rows {
                    writer.push(row.chunks(4)).unwrap();
                }
                assert!(matches!(
                    writer.push([&[1.0f32][..]]),
                    Err(IngestError::Npy {
                        problem: NpyProblem::Row { got: 1, .. },
                        ..
                    })
                ));
                writer.finish().unwrap();
                let mut reader = NpyReader::open(&path).unwrap();
                assert_eq!(
                    (reader.rows(), reader.layers(), reader.dimension()),
                    (count, layers, 4)
                );
                for row in &rows {
                    assert_eq!(reader.next_row().unwrap().as_ref(), Some(row));
                }
                assert_eq!(reader.next_row().unwrap(), None);
                let shape = if layers == 1 {
                    format!("({count}, 4)")
                } else {
                    format!("({count}, {layers}, 4)")
                };
                let sum: f32 = rows.iter().flatten().sum();
                script += &format!(
                    "a = numpy.load({path:?})\nassert a.shape == {shape}, a.shape\nassert a.sum() == {sum}\n"
                );
            }
        }
    }
    let python = std::process::Command::new("python3")
        .args(["-c", &script])
        .output();
    match python {
        Ok(output) if output.status.success() => {}
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("No module named 'numpy'") => {
            println!("skipped: numpy is not installed, so only our own reader has read the files");
        }
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => println!("skipped: there is no python3, so only our own reader has read the files"),
    }
}
