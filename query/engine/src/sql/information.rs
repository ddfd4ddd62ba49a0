//! `information_schema`: what tables and columns there are. Rows are made when they are asked for;
//! a filter on the name of a table is looked at first, since each table costs a look-up.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, Session};
use datafusion::datasource::TableProvider;
use datafusion_common::{Result, ScalarValue};
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::stream;
use model::Signal;
use query::Error;

use super::catalog::{CATALOG, INFORMATION, METRICS, SAMPLES, columns_of, is_taken};
use super::columns::Columns;
use super::entries::{self, ENTRIES};
use super::errors::external;
use super::reader::Reader;
use super::types::type_name;

/// The schema about schemas.
#[derive(Debug)]
pub(super) struct Information {
    reader: Arc<Reader>,
}

impl Information {
    pub(super) fn new(reader: Arc<Reader>) -> Self {
        Self { reader }
    }
}

/// Its tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Schemata,
    Tables,
    Columns,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Columns, Self::Schemata, Self::Tables];

    fn name(self) -> &'static str {
        match self {
            Self::Schemata => "schemata",
            Self::Tables => "tables",
            Self::Columns => "columns",
        }
    }

    fn schema(self) -> SchemaRef {
        let text = |name| Field::new(name, DataType::Utf8, false);
        let fields = match self {
            Self::Schemata => vec![text("catalog_name"), text("schema_name")],
            Self::Tables => {
                ["table_catalog", "table_schema", "table_name", "table_type"].map(text).to_vec()
            }
            Self::Columns => vec![
                text("table_catalog"),
                text("table_schema"),
                text("table_name"),
                text("column_name"),
                Field::new("ordinal_position", DataType::UInt64, false),
                text("is_nullable"),
                text("data_type"),
            ],
        };
        Arc::new(Schema::new(fields))
    }
}

#[async_trait]
impl SchemaProvider for Information {
    fn table_names(&self) -> Vec<String> {
        Kind::ALL.map(|kind| kind.name().to_owned()).to_vec()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        let reader = || Arc::clone(&self.reader);
        Ok(kind.map(|kind| Arc::new(Facts { reader: reader(), kind }) as Arc<dyn TableProvider>))
    }

    fn table_exist(&self, name: &str) -> bool {
        Kind::ALL.iter().any(|kind| kind.name() == name)
    }
}

/// A table about tables.
#[derive(Debug)]
struct Facts {
    reader: Arc<Reader>,
    kind: Kind,
}

#[async_trait]
impl TableProvider for Facts {
    fn schema(&self) -> SchemaRef {
        self.kind.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match named(filter) {
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = Listing {
            reader: Arc::clone(&self.reader),
            kind: self.kind,
            schema: self.kind.schema(),
            table: filters.iter().find_map(named),
        };
        let exec = StreamingTableExec::try_new(
            self.kind.schema(),
            vec![Arc::new(rows)],
            projection,
            None,
            false,
            limit,
        )?;
        Ok(Arc::new(exec))
    }
}

/// The table of `table_name = '…'`.
fn named(filter: &Expr) -> Option<String> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = filter else {
        return None;
    };
    match (&**left, &**right) {
        (Expr::Column(column), Expr::Literal(value, _))
        | (Expr::Literal(value, _), Expr::Column(column))
            if column.name == "table_name" =>
        {
            match value {
                ScalarValue::Utf8(name) | ScalarValue::Utf8View(name) => name.clone(),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The rows of one reading.
#[derive(Debug)]
struct Listing {
    reader: Arc<Reader>,
    kind: Kind,
    schema: SchemaRef,
    /// The only table that is asked for.
    table: Option<String>,
}

/// Tables whose columns are told in one batch.
const TABLES_AT_ONCE: usize = 100;

impl PartitionStream for Listing {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (reader, kind, table) = (Arc::clone(&self.reader), self.kind, self.table.clone());
        let begin = Telling::Begin { table };
        let batches = stream::try_unfold(begin, move |telling| {
            let reader = Arc::clone(&reader);
            async move {
                let told = telling.next(&reader, kind).await.map_err(external)?;
                Ok(match told {
                    Some((columns, rest)) => {
                        Some((RecordBatch::try_new(kind.schema(), columns)?, rest))
                    }
                    None => None,
                })
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

/// How far the telling is.
enum Telling {
    Begin { table: Option<String> },
    Columns { left: std::vec::IntoIter<Table> },
    End,
}

/// A table of the scope.
struct Table {
    schema: &'static str,
    name: String,
}

impl Telling {
    async fn next(
        self,
        reader: &Arc<Reader>,
        kind: Kind,
    ) -> Result<Option<(Vec<ArrayRef>, Self)>, Error> {
        let mut left = match self {
            Self::End => return Ok(None),
            Self::Columns { left } => left,
            Self::Begin { .. } if kind == Kind::Schemata => {
                let schemas = [ENTRIES, INFORMATION, METRICS].map(|schema| [CATALOG, schema]);
                return Ok(Some((texts(schemas), Self::End)));
            }
            Self::Begin { table } => {
                let all = all_tables(reader, table).await?;
                if kind == Kind::Tables {
                    return Ok(Some((tables(&all), Self::End)));
                }
                all.into_iter()
            }
        };
        let mut rows = Vec::new();
        for table in left.by_ref().take(TABLES_AT_ONCE) {
            let columns = match entries::signal_named(&table.name) {
                Some(signal) => Some(entries::columns_of(reader, signal).await?),
                None => columns_of(reader, &table.name).await?,
            };
            // It may be gone by now.
            if let Some(columns) = columns {
                push_columns(&mut rows, &table, &columns);
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        Ok(Some((columns(&rows), Self::Columns { left })))
    }
}

/// The tables of the scope, or those of one name.
async fn all_tables(reader: &Arc<Reader>, named: Option<String>) -> Result<Vec<Table>, Error> {
    let metrics = match &named {
        // A name that is asked for by itself is not looked for among all others.
        Some(name) if is_taken(name) => Vec::new(),
        Some(name) => match reader.labels_of(name).await? {
            Some(_) => vec![name.clone()],
            None => Vec::new(),
        },
        None => reader.metric_names().await?,
    };
    let is_named = |name: &str| named.as_ref().is_none_or(|named| named == name);
    let signals = Signal::ALL.map(Signal::as_str).into_iter().filter(|name| is_named(name));
    let entries = signals.map(|name| Table { schema: ENTRIES, name: name.to_owned() });
    let metrics = metrics.into_iter().filter(|name| !is_taken(name));
    let samples = is_named(SAMPLES).then(|| SAMPLES.to_owned());
    let metrics = metrics.chain(samples).map(|name| Table { schema: METRICS, name });
    Ok(entries.chain(metrics).collect())
}

fn texts<const N: usize>(rows: impl IntoIterator<Item = [&'static str; N]>) -> Vec<ArrayRef> {
    let rows: Vec<[&str; N]> = rows.into_iter().collect();
    let column = |i: usize| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(row[i])).collect::<StringArray>())
    };
    (0..N).map(column).collect()
}

fn tables(stored: &[Table]) -> Vec<ArrayRef> {
    let own = Kind::ALL.map(|kind| (INFORMATION, kind.name(), "VIEW"));
    let stored = stored.iter().map(|table| (table.schema, table.name.as_str(), "BASE TABLE"));
    let rows: Vec<(&str, &str, &str)> = own.into_iter().chain(stored).collect();
    vec![
        Arc::new(rows.iter().map(|_| Some(CATALOG)).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| Some(row.0)).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| Some(row.1)).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| Some(row.2)).collect::<StringArray>()),
    ]
}

/// One column of one table.
struct ColumnRow {
    schema: &'static str,
    table: String,
    name: String,
    position: u64,
    is_nullable: bool,
    data_type: String,
}

fn push_columns(rows: &mut Vec<ColumnRow>, table: &Table, columns: &Columns) {
    for (position, field) in (1..).zip(columns.schema().fields()) {
        rows.push(ColumnRow {
            schema: table.schema,
            table: table.name.clone(),
            name: field.name().clone(),
            position,
            is_nullable: field.is_nullable(),
            data_type: type_name(field.data_type()),
        });
    }
}

fn columns(rows: &[ColumnRow]) -> Vec<ArrayRef> {
    let text = |of: fn(&ColumnRow) -> &str| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(of(row))).collect::<StringArray>())
    };
    vec![
        text(|_| CATALOG),
        text(|row| row.schema),
        text(|row| &row.table),
        text(|row| &row.name),
        Arc::new(rows.iter().map(|row| row.position).collect::<UInt64Array>()),
        text(|row| if row.is_nullable { "YES" } else { "NO" }),
        text(|row| &row.data_type),
    ]
}
