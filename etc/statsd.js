// StatsD 0.9 for Tidegate: [plugins.monitoring] statsd = "127.0.0.1:8125". Start: node stats.js statsd.js
{
  address: "127.0.0.1",
  port: 8125,
  mgmt_address: "127.0.0.1",
  mgmt_port: 8126,
  backends: ["./backends/graphite"],
  graphiteHost: "127.0.0.1",
  graphitePort: 2003,
  // counters.NAME.count, timers.NAME.upper_99, gauges.NAME
  graphite: { legacyNamespace: false, globalPrefix: "" },
  // The finest step of storage-schemas.conf; a shorter one would overwrite counts.
  flushInterval: 10000,
  percentThreshold: [50, 90, 99],
  // A command that nobody calls has no p99, instead of its last one for ever.
  deleteGauges: true,
  deleteTimers: true,
  // Counters go to 0, which is true.
  deleteCounters: false,
  automaticConfigReload: false,
  title: false
}
