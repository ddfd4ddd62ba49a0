//! Network devices, protocols and sockets (`/proc/net`, `/sys/class/net`).

use std::io;

use super::families::Families;
use super::{Host, malformed};

/// Columns of `/proc/net/dev`.
const COLUMNS: [&str; 16] = [
    "receive_bytes",
    "receive_packets",
    "receive_errs",
    "receive_drop",
    "receive_fifo",
    "receive_frame",
    "receive_compressed",
    "receive_multicast",
    "transmit_bytes",
    "transmit_packets",
    "transmit_errs",
    "transmit_drop",
    "transmit_fifo",
    "transmit_colls",
    "transmit_carrier",
    "transmit_compressed",
];

pub(super) fn devices(host: &Host, families: &mut Families<'_>) -> io::Result<()> {
    let text = host.root.read("proc/net/dev")?;
    let mut devices = Vec::new();
    for line in text.lines().skip(2) {
        let (device, numbers) = line.rsplit_once(':').ok_or_else(|| malformed("proc/net/dev"))?;
        let numbers: Result<Vec<f64>, _> =
            numbers.split_ascii_whitespace().map(str::parse).collect();
        devices.push((device.trim(), numbers.map_err(|_| malformed("proc/net/dev"))?));
    }
    for (i, column) in COLUMNS.iter().enumerate() {
        let help = format!("Network device statistic {column}.");
        families.open(&format!("node_network_{column}_total"), "counter", &help);
        for (device, numbers) in &devices {
            if let Some(value) = numbers.get(i) {
                families.sample(&[("device", device)], *value);
            }
        }
    }
    let help = "Network device statistic receive_nohandler.";
    families.open("node_network_receive_nohandler_total", "counter", help);
    for (device, _) in &devices {
        let value = host.root.value(&format!("sys/class/net/{device}/statistics/rx_nohandler"));
        if let Some(value) = value.and_then(|v| v.parse().ok()) {
            families.sample(&[("device", device)], value);
        }
    }
    Ok(())
}

/// Files of a network device, the metric each becomes, its type and the factor to its unit.
const PROPERTIES: [(&str, &str, &str, f64); 17] = [
    ("addr_assign_type", "address_assign_type", "gauge", 1.0),
    ("carrier", "carrier", "gauge", 1.0),
    ("carrier_changes", "carrier_changes_total", "counter", 1.0),
    ("carrier_down_count", "carrier_down_changes_total", "counter", 1.0),
    ("carrier_up_count", "carrier_up_changes_total", "counter", 1.0),
    ("dev_id", "device_id", "gauge", 1.0),
    ("dormant", "dormant", "gauge", 1.0),
    ("flags", "flags", "gauge", 1.0),
    ("ifindex", "iface_id", "gauge", 1.0),
    ("iflink", "iface_link", "gauge", 1.0),
    ("link_mode", "iface_link_mode", "gauge", 1.0),
    ("mtu", "mtu_bytes", "gauge", 1.0),
    ("name_assign_type", "name_assign_type", "gauge", 1.0),
    ("netdev_group", "net_dev_group", "gauge", 1.0),
    ("type", "protocol_type", "gauge", 1.0),
    ("speed", "speed_bytes", "gauge", 1e6 / 8.0),
    ("tx_queue_len", "transmit_queue_length", "gauge", 1.0),
];

pub(super) fn class(host: &Host, families: &mut Families<'_>) -> io::Result<()> {
    let mut devices: Vec<String> = std::fs::read_dir(host.root.path.join("sys/class/net"))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        // `bonding_masters` is a file among the devices.
        .filter(|name| host.root.path.join("sys/class/net").join(name).is_dir())
        .collect();
    devices.sort();
    let value =
        |device: &str, file: &str| host.root.value(&format!("sys/class/net/{device}/{file}"));
    families.open("node_network_up", "gauge", "Value is 1 if operstate is 'up', 0 otherwise.");
    for device in &devices {
        let up = value(device, "operstate").is_some_and(|state| state == "up");
        families.sample(&[("device", device)], f64::from(u8::from(up)));
    }
    let help = "Non-numeric data from /sys/class/net/<iface>, value is always 1.";
    families.open("node_network_info", "gauge", help);
    for device in &devices {
        let of = |file: &str| value(device, file).unwrap_or_default();
        let labels = [
            ("device", device.as_str()),
            ("address", &of("address")),
            ("broadcast", &of("broadcast")),
            ("duplex", &of("duplex")),
            ("operstate", &of("operstate")),
            ("ifalias", &of("ifalias")),
        ];
        families.sample(&labels, 1.0);
    }
    for (file, name, kind, factor) in PROPERTIES {
        let mut values =
            devices.iter().filter_map(|d| Some((d, number(&value(d, file)?)?))).peekable();
        if values.peek().is_some() {
            families.open(
                &format!("node_network_{name}"),
                kind,
                &format!("Network device property: {name}"),
            );
            values
                .for_each(|(device, value)| families.sample(&[("device", device)], value * factor));
        }
    }
    Ok(())
}

/// A decimal number, or a hexadecimal one with its prefix.
fn number(text: &str) -> Option<f64> {
    match text.strip_prefix("0x") {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).ok().map(|n| n as f64),
        None => text.parse::<i64>().ok().map(|n| n as f64),
    }
}

pub(super) fn netstat(host: &Host, families: &mut Families<'_>) -> io::Result<()> {
    let mut one = |protocol: &str, name: &str, value: &str| -> io::Result<()> {
        if is_shown(protocol, name) {
            let value = value.parse().map_err(|_| malformed("proc/net/netstat"))?;
            let help = format!("Statistic {protocol}{name}.");
            families.one(&format!("node_netstat_{protocol}_{name}"), "untyped", &help, value);
        }
        Ok(())
    };
    for file in ["netstat", "snmp"] {
        let text = host.root.read(&format!("proc/net/{file}"))?;
        let mut lines = text.lines();
        // A line of names, then a line of values, both beginning with the protocol.
        while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            let (Some((protocol, names)), Some((_, values))) =
                (names.split_once(':'), values.split_once(':'))
            else {
                return Err(malformed("proc/net/netstat"));
            };
            for (name, value) in names.split_ascii_whitespace().zip(values.split_ascii_whitespace())
            {
                one(protocol, name, value)?;
            }
        }
    }
    // Absent where IPv6 is switched off.
    for line in host.root.read("proc/net/snmp6").unwrap_or_default().lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(name), Some(value)) = (words.next(), words.next()) else {
            continue;
        };
        if let Some(end) = name.find('6') {
            one(&name[..=end], &name[end + 1..], value)?;
        }
    }
    Ok(())
}

/// node_exporter's default choice.
fn is_shown(protocol: &str, name: &str) -> bool {
    if name == "InErrors" || name == "InErrs" {
        return true;
    }
    match protocol {
        "Ip" => name == "Forwarding",
        "Ip6" | "IpExt" => matches!(name, "InOctets" | "OutOctets"),
        "Icmp" | "Icmp6" => matches!(name, "InMsgs" | "OutMsgs"),
        "TcpExt" => {
            name.starts_with("Listen")
                || name.starts_with("Syncookies")
                || matches!(name, "TCPSynRetrans" | "TCPTimeouts" | "TCPOFOQueue" | "TCPRcvQDrop")
        }
        "Tcp" => matches!(
            name,
            "ActiveOpens"
                | "InSegs"
                | "OutSegs"
                | "OutRsts"
                | "PassiveOpens"
                | "RetransSegs"
                | "CurrEstab"
        ),
        "Udp" | "Udp6" => matches!(
            name,
            "InDatagrams" | "OutDatagrams" | "NoPorts" | "RcvbufErrors" | "SndbufErrors"
        ),
        _ => false,
    }
}

pub(super) fn sockstat(host: &Host, families: &mut Families<'_>) -> io::Result<()> {
    let page_bytes = page_bytes(host);
    for file in ["sockstat", "sockstat6"] {
        let text = match host.root.read(&format!("proc/net/{file}")) {
            Err(error) if file == "sockstat6" && error.kind() == io::ErrorKind::NotFound => {
                return Ok(());
            }
            text => text?,
        };
        for line in text.lines() {
            let (protocol, pairs) =
                line.split_once(':').ok_or_else(|| malformed("proc/net/sockstat"))?;
            let words: Vec<&str> = pairs.split_ascii_whitespace().collect();
            for pair in words.chunks_exact(2) {
                let value: f64 = pair[1].parse().map_err(|_| malformed("proc/net/sockstat"))?;
                if protocol == "sockets" {
                    let help = "Number of IPv4 sockets in use.";
                    families.one("node_sockstat_sockets_used", "gauge", help, value);
                    continue;
                }
                socket(families, protocol, pair[0], value);
                if pair[0] == "mem" {
                    socket(families, protocol, "mem_bytes", value * page_bytes);
                }
            }
        }
    }
    Ok(())
}

fn socket(families: &mut Families<'_>, protocol: &str, name: &str, value: f64) {
    let help = format!("Number of {protocol} sockets in state {name}.");
    families.one(&format!("node_sockstat_{protocol}_{name}"), "gauge", &help, value);
}

/// Size of a memory page, from what the kernel told this process (`AT_PAGESZ`).
fn page_bytes(host: &Host) -> f64 {
    const AT_PAGESZ: usize = 6;
    let words = std::fs::read(host.root.path.join("proc/self/auxv")).unwrap_or_default();
    let word = |bytes: &[u8]| bytes.try_into().map(usize::from_ne_bytes).unwrap_or(0);
    let mut entries =
        words.chunks_exact(2 * size_of::<usize>()).map(|e| e.split_at(size_of::<usize>()));
    entries.find(|(key, _)| word(key) == AT_PAGESZ).map_or(4096.0, |(_, value)| word(value) as f64)
}
