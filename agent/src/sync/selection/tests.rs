//! What arrives, by handling, rules and what the destination has; and that what is cut off is gone from every part of a
//! batch.

use arrow::array::{Array, AsArray};
use inshore_columnar::{Column, Naming, Op, TableBuilder, Value};

use super::*;

const SALT: [u8; SALT_BYTES] = [3; SALT_BYTES];

fn orders() -> TableName {
    TableName::new("shop", "orders")
}

/// Rules of `shop.orders`, each as `column=out`, `column=in`, `column=hash`; `*=out` and `*=in` are the table's.
fn rules(table: &str, words: &[&str]) -> Rules {
    let mut rule = TableRule::default();
    for word in words {
        let (name, what) = word.split_once('=').expect("a name and what");
        let enabled = match what {
            "out" => Some(false),
            "in" => Some(true),
            _ => None,
        };
        if name == "*" {
            rule.enabled = enabled;
        } else {
            rule.columns.insert(name.to_owned(), ColumnRule { enabled, hashed: what == "hash" });
        }
    }
    let schema = SchemaRule { enabled: None, tables: [(table.to_owned(), rule)].into() };
    Rules([("shop".to_owned(), schema)].into())
}

fn selection(handling: Handling, rules: Rules) -> Selection {
    Selection::new(handling, rules, None, Some(Salt::new(SALT))).expect("a selection")
}

/// Rows with every operation: two upserts, an update that carries `note` and a column without a type, a delete.
fn batch(key: &[&str]) -> RowBatch {
    let key: Vec<String> = key.iter().map(|name| (*name).to_owned()).collect();
    let mut builder = TableBuilder::new(orders(), &key, &[], Naming::Source);
    let mut row = |op: Op, values: &[(&str, Value<'_>)]| {
        builder.begin_row(op);
        for (name, value) in values {
            let slot = builder.column_index(name);
            builder.set(slot, *value).expect("fits");
        }
        builder.end_row().expect("a whole row");
    };
    row(Op::Upsert, &[("id", Value::Int(1)), ("email", Value::Str("a@b")), ("note", Value::Str("x"))]);
    row(Op::Upsert, &[("id", Value::Int(2)), ("email", Value::Null), ("note", Value::Str("y"))]);
    if !key.is_empty() {
        row(Op::Update, &[("id", Value::Int(1)), ("void", Value::Null), ("note", Value::Str("z"))]);
        row(Op::Delete, &[("id", Value::Int(2))]);
    }
    builder.finish().expect("rows")
}

fn at_destination(columns: &'static [&'static str]) -> impl Fn(&TableName) -> Option<TableSchema> {
    move |name| {
        let columns: Vec<Column> = columns.iter().map(|name| Column::new(*name, DataType::String)).collect();
        (!columns.is_empty()).then(|| TableSchema { name: name.clone(), key: vec!["id".to_owned()], columns })
    }
}

/// The columns that arrive, hashed ones with a `#`; nothing when the table does not.
fn check(handling: Handling, words: &[&str], destination: &'static [&'static str], expected: Option<&[&str]>) {
    let mut selection = selection(handling, rules("orders", words));
    let given = batch(&["id"]);
    let cut = selection.rows(&given, &at_destination(destination)).expect("decides");
    let context = format!("{handling:?} {words:?} {destination:?}");
    assert_eq!(selection.blocked_rows(), if expected.is_some() { 0 } else { 4 }, "{context}");
    let arrived = cut.map(|cut| cut.apply(given).expect("cuts"));
    let hashed: Vec<&String> = selection.hashed(&orders()).collect();
    let names = arrived.as_ref().map(|rows| {
        rows.validate().expect("a batch like those of connectors");
        let typed = rows.schema.columns.iter().map(|column| &column.name);
        let spelled = |name: &String| if hashed.contains(&name) { format!("{name}#") } else { name.clone() };
        typed.chain(&rows.untyped).map(spelled).collect::<Vec<_>>()
    });
    let expected = expected.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    assert_eq!(names, expected, "{context}");
}

#[test]
fn what_arrives_follows_from_handling_rules_and_what_is_known() {
    use Handling::{AllowAll, AllowColumns, BlockAll};
    let all: Option<&[&str]> = Some(&["id", "email", "note", "void"]);
    check(AllowAll, &[], &[], all);
    check(AllowAll, &[], &["id"], all);
    check(AllowAll, &["email=out"], &[], Some(&["id", "note", "void"]));
    check(AllowAll, &["email=hash", "void=out"], &["id", "email"], Some(&["id", "email#", "note"]));
    check(AllowAll, &["id=hash", "void=hash"], &[], Some(&["id#", "email", "note", "void#"]));
    check(AllowAll, &["*=out"], &["id"], None);
    check(AllowColumns, &[], &[], None);
    check(AllowColumns, &[], &["id"], all);
    check(AllowColumns, &["*=in", "note=out"], &[], Some(&["id", "email", "void"]));
    check(BlockAll, &[], &[], None);
    check(BlockAll, &[], &["id", "email"], Some(&["id", "email"]));
    check(BlockAll, &["note=in", "email=out"], &["id", "email"], Some(&["id", "note"]));
    check(BlockAll, &["note=hash"], &["id", "email"], Some(&["id", "email"]));
    check(BlockAll, &["*=in", "email=hash"], &[], Some(&["id", "email#", "note", "void"]));
}

#[test]
fn a_key_column_is_hashed_but_never_blocked() {
    let select = |words: &[&str]| selection(Handling::AllowAll, rules("orders", words));
    let error = select(&["id=out"]).rows(&batch(&["id"]), &|_| None).err().expect("refused");
    assert!(error.to_string().contains("blocks id, a key column of shop.orders"), "{error}");
    // Of a blocked table nothing is asked.
    assert!(select(&["id=out", "*=out"]).rows(&batch(&["id"]), &|_| None).expect("decides").is_none());
    // Without a key the column is one like others.
    assert!(select(&["id=out"]).rows(&batch(&[]), &|_| None).is_ok());
}

#[test]
fn values_are_hashed_alike_in_every_operation_and_the_rest_stays() {
    let given = batch(&["id"]);
    let mut selection = selection(Handling::AllowAll, rules("orders", &["id=hash", "email=out"]));
    let cut = selection.rows(&given, &|_| None).expect("decides").expect("arrives");
    let rows = cut.apply(given.clone()).expect("cuts");
    assert_eq!(rows.ops(), given.ops());
    let ids = rows.rows.column(0).as_string::<i32>();
    assert_eq!((ids.value(0), ids.value(1)), (ids.value(2), ids.value(3)), "an update and a delete find their rows");
    assert_eq!(rows.schema.columns[0].data_type, DataType::String);
    let set = rows.set_of_rows().expect("sets")[2];
    let carried: Vec<_> = rows.sets[set as usize].iter().filter_map(|place| rows.set_column(*place)).collect();
    assert_eq!(carried, ["note", "void"]);
    assert!(!format!("{rows:?}").contains("a@b") && format!("{given:?}").contains("a@b"));
}

#[test]
fn an_update_of_blocked_columns_alone_carries_nothing() {
    let given = batch(&["id"]);
    let mut selection = selection(Handling::AllowAll, rules("orders", &["note=out", "void=out"]));
    let rows = selection.rows(&given, &|_| None).expect("decides").expect("arrives").apply(given).expect("cuts");
    rows.validate().expect("valid");
    assert!(rows.untyped.is_empty() && rows.sets.iter().all(Vec::is_empty), "{:?}", rows.sets);
    assert_eq!(rows.row_count(), 4);
}

#[test]
fn declared_tables_lose_what_is_blocked_and_keep_their_keys() {
    let table = |name: &str| TableSchema {
        name: TableName::new("shop", name),
        key: vec!["id".to_owned()],
        columns: vec![
            Column { name: "id".to_owned(), data_type: DataType::Long, declared: true },
            Column { name: "email".to_owned(), data_type: DataType::Json, declared: true },
            Column { name: "note".to_owned(), data_type: DataType::Xml, declared: true },
        ],
    };
    let mut rules = rules("orders", &["email=hash", "note=out"]);
    rules
        .0
        .get_mut("shop")
        .expect("the schema")
        .tables
        .insert("gone".to_owned(), TableRule { enabled: Some(false), ..TableRule::default() });
    let mut selection = selection(Handling::AllowAll, rules);
    let declared = selection.declare(vec![table("orders"), table("gone")], &|_| None).expect("decides");
    let columns: Vec<_> = declared[0].columns.iter().map(|column| (column.name.as_str(), column.data_type)).collect();
    assert_eq!((declared.len(), columns), (1, vec![("id", DataType::Long), ("email", DataType::String)]));
    let seen = selection.into_seen();
    let gone = &seen[&TableName::new("shop", "gone")];
    assert_eq!((gone.enabled, gone.columns.len(), gone.key.len()), (false, 3, 1), "what is blocked is told too");
}

#[test]
fn rules_are_found_by_source_name_destination_name_and_hash() {
    let spell: Spell = Arc::new(|schema, table, column| format!("{schema}/{table:?}/{column:?}"));
    let hash = |table, column| spell("shop", table, column);
    let arrives = |rules: Rules| {
        let rules = rules.renamed(Naming::Fivetran);
        let mut selection = Selection::new(Handling::AllowAll, rules, Some(Arc::clone(&spell)), None).expect("made");
        let given = batch(&["id"]);
        selection
            .rows(&given, &|_| None)
            .expect("decides")
            .map(|cut| cut.apply(given).expect("cuts").schema.columns.len())
    };
    assert_eq!(arrives(rules("Orders", &["eMail=out"])), Some(3), "e_mail is another column");
    assert_eq!(arrives(rules("Orders", &["Email=out"])), Some(2));
    assert_eq!(arrives(rules("orders", &["Email=in", "email=out"])), Some(2), "the stricter one counts");
    let mut hashed = rules(&hash(Some("orders"), None), &["*=in"]);
    let columns = &mut hashed.0.get_mut("shop").expect("shop").tables;
    let rule = columns.values_mut().next().expect("a table");
    rule.columns.insert(hash(Some("orders"), Some("note")), ColumnRule { enabled: Some(false), hashed: false });
    assert_eq!(arrives(hashed.clone()), Some(2));
    let mut schema = Rules([(hash(None, None), SchemaRule { enabled: Some(false), ..SchemaRule::default() })].into());
    assert_eq!(arrives(schema.clone()), None, "a blocked schema blocks its tables");
    schema.0.extend(rules("orders", &["*=in"]).0);
    assert_eq!(arrives(schema), None, "even those that are enabled");
}

#[test]
fn hashing_without_a_salt_is_refused() {
    let error = Selection::new(Handling::AllowAll, rules("orders", &["email=hash"]), None, None).err();
    assert!(matches!(error, Some(Error::NoSalt)));
    assert!(Selection::new(Handling::AllowAll, rules("orders", &["email=out"]), None, None).is_ok());
}

#[test]
fn tables_are_bounded_also_when_they_are_blocked() {
    let mut selection = selection(Handling::BlockAll, Rules::default());
    let named = |number: usize| TableName::new("shop", format!("t{number}"));
    let last = (0..).map(|number| selection.lets_in(&named(number), &|_| None)).find(Result::is_err).expect("an end");
    assert!(matches!(last, Err(Error::Batch(batch::Error::TooManyTables { .. }))));
    assert_eq!(selection.tables.len(), TABLES_MAX + 1);
}

#[test]
fn null_stays_null() {
    let given = batch(&["id"]);
    let mut selection = selection(Handling::AllowAll, rules("orders", &["email=hash"]));
    let rows = selection.rows(&given, &|_| None).expect("decides").expect("arrives").apply(given).expect("cuts");
    let emails = rows.rows.column(1).as_string::<i32>();
    assert_eq!((emails.value(0).len(), emails.is_null(1)), (64, true));
}
