// examples/mqttd/metrics.hpp — the figures as text in Prometheus' format
// SPDX-License-Identifier: MIT
#ifndef MQTTD_METRICS_HPP
#define MQTTD_METRICS_HPP

#include <stdio.h>

#include "figures.hpp"

namespace mqttd {

/// Enough for write_metrics().
constexpr size_t metrics_bytes_max = figure_count * 256 + 512;

/// Writes the text of /metrics (exposition format 0.0.4) and returns its size; 0 when the target is
/// too small.
inline size_t write_metrics(const Figures& figures, uint64_t uptime_s, char* target, size_t size) {
  size_t used = 0;
  const auto add = [&](const char* name, const char* help, bool counter, long long value) {
    const int written = snprintf(target + used, size - used,
                                 "# HELP mqttd_%s %s\n# TYPE mqttd_%s %s\nmqttd_%s %lld\n", name,
                                 help, name, counter ? "counter" : "gauge", name, value);
    const bool fits = written > 0 && static_cast<size_t>(written) < size - used;
    used = fits ? used + static_cast<size_t>(written) : size;
    return fits;
  };
  bool fits = size != 0 && add("uptime_seconds", "Seconds since the start.", false,
                               static_cast<long long>(uptime_s));
  for (uint32_t i = 0; i != figure_count && fits; ++i) {
    const FigureName& name = figure_names[i];
    fits = add(name.metric, name.help, name.counter, static_cast<long long>(figures.values[i]));
  }
  return fits ? used : 0;
}

}  // namespace mqttd

#endif
