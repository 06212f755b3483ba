// examples/mqttd/sys_tree.hpp — the retained messages below $SYS
// SPDX-License-Identifier: MIT
#ifndef MQTTD_SYS_TREE_HPP
#define MQTTD_SYS_TREE_HPP

#include <stdio.h>
#include <time.h>
#include <mqtt.hpp>

#include "figures.hpp"

namespace mqttd {

/// An average over some minutes that forgets exponentially, as the load of a machine is counted.
class LoadAverage {
 public:
  /// `seconds` have passed, in which `count` events came. The events a minute.
  double update(int64_t count, int64_t seconds, uint32_t minutes) {
    const double rate = static_cast<double>(count) * 60.0 / static_cast<double>(seconds);
    value_ = rate + decay(seconds, minutes) * (value_ - rate);
    return value_;
  }
  double value() const { return value_; }

 private:
  // exp(-seconds / (60 * minutes)), without the library of mathematics.
  static double decay(int64_t seconds, uint32_t minutes) {
    double power = minutes == 1   ? 0.9834714538216175   // exp(-1/60)
                   : minutes == 5 ? 0.9966722160545233   // exp(-1/300)
                                  : 0.9988895059442793;  // exp(-1/900)
    double result = 1.0;
    for (auto left = static_cast<uint64_t>(seconds); left != 0; left >>= 1) {
      if ((left & 1) != 0) { result *= power; }
      power *= power;
    }
    return result;
  }

  double value_ = 0;
};

/// Publishes the figures: all of them at the start, later what has changed, when the seconds since
/// 1970 are a multiple of sys_interval. `publish(topic, text)` retains a text under a topic.
class SysTree {
 public:
  static constexpr const char* node = "mqttd";  ///< in $SYS/brokers/NODE/…

  /// Without an interval nothing is ever published.
  template <typename Publish>
  void start(const char* version, mqtt::Millis now, const Figures& figures, Publish&& publish) {
    started_ms_ = now;
    last_ms_ = now;
    char text[64];
    snprintf(text, sizeof text, "mqttd version %s", version);
    publish("$SYS/broker/version", text);
    const time_t today = time(nullptr);
    tm parts{};
    if (gmtime_r(&today, &parts) != nullptr) {
      snprintf(text, sizeof text, "%d-%02d-%02d %02d:%02d:%02d+0000", parts.tm_year + 1900,
               parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
      publish("$SYS/broker/timestamp", text);
    }
    publish_uptime(now, publish);
    for (uint32_t i = 0; i != figure_count; ++i) { publish_figure(i, figures.values[i], publish); }
    for (uint32_t i = 0; i != load_count; ++i) { publish_load(i, publish); }
  }

  /// Milliseconds until update() is due.
  static int wait_ms(int64_t interval_s) {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    const int64_t period_ms = interval_s * 1000;
    const int64_t now_ms = static_cast<int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1000000;
    return static_cast<int>(period_ms - now_ms % period_ms);
  }

  template <typename Publish>
  void update(mqtt::Millis now, const Figures& figures, Publish&& publish) {
    const auto seconds = static_cast<int64_t>((now - last_ms_ + 500) / 1000);
    if (seconds <= 0) { return; }
    last_ms_ = now;
    publish_uptime(now, publish);
    for (uint32_t i = 0; i != load_count; ++i) {
      constexpr double visible = 0.01;
      const auto figure = static_cast<uint32_t>(loads[i / 3].figure);
      const double before = averages_[i].value();
      const double change =
          averages_[i].update(figures.values[figure] - published_[figure], seconds, minutes(i)) -
          before;
      if (change >= visible || change <= -visible) { publish_load(i, publish); }
    }
    for (uint32_t i = 0; i != figure_count; ++i) {
      if (figures.values[i] != published_[i]) { publish_figure(i, figures.values[i], publish); }
    }
  }

  uint64_t uptime_s(mqtt::Millis now) const { return (now - started_ms_) / 1000; }

 private:
  struct Load {
    char topic[18];
    Figure figure;
  };
  static constexpr Load loads[] = {{"messages/received", Figure::messages_received},
                                   {"messages/sent", Figure::messages_sent},
                                   {"publish/dropped", Figure::publish_dropped},
                                   {"publish/received", Figure::publish_received},
                                   {"publish/sent", Figure::publish_sent},
                                   {"bytes/received", Figure::bytes_received},
                                   {"bytes/sent", Figure::bytes_sent},
                                   {"sockets", Figure::sockets},
                                   {"connections", Figure::connections}};
  static constexpr uint32_t load_count = 3 * sizeof loads / sizeof loads[0];

  static uint32_t minutes(uint32_t index) {
    constexpr uint32_t all[] = {1, 5, 15};
    return all[index % 3];
  }

  template <typename Publish>
  void publish_uptime(mqtt::Millis now, Publish& publish) {
    char text[40];
    snprintf(text, sizeof text, "%llu seconds", static_cast<unsigned long long>(uptime_s(now)));
    publish("$SYS/broker/uptime", text);
  }

  template <typename Publish>
  void publish_load(uint32_t index, Publish& publish) {
    char topic[64];
    char text[40];
    snprintf(topic, sizeof topic, "$SYS/broker/load/%s/%umin", loads[index / 3].topic,
             minutes(index));
    // Written as a whole number of hundredths: printing floating point takes 40 KiB of the C
    // library into memory.
    const auto halves = static_cast<long long>(averages_[index].value() * 200.0);
    const long long hundredths = (halves + 1) / 2;
    snprintf(text, sizeof text, "%lld.%02lld", hundredths / 100, hundredths % 100);
    publish(topic, text);
  }

  template <typename Publish>
  void publish_figure(uint32_t index, int64_t value, Publish& publish) {
    const FigureName& name = figure_names[index];
    published_[index] = value;
    char topic[64];
    char text[24];
    snprintf(text, sizeof text, "%lld", static_cast<long long>(value));
    const char* const names[] = {name.topic, name.second_topic};
    for (const char* each : names) {
      if (each[0] == 0) { continue; }
      snprintf(topic, sizeof topic, "$SYS/broker/%.26s", each);
      publish(topic, text);
    }
    const bool traffic = index == static_cast<uint32_t>(Figure::bytes_received) ||
                         index == static_cast<uint32_t>(Figure::bytes_sent);
    if (traffic) {
      snprintf(topic, sizeof topic, "$SYS/brokers/%s/metrics/%.26s", node, name.topic);
      publish(topic, text);
    }
  }

  mqtt::Millis started_ms_ = 0;
  mqtt::Millis last_ms_ = 0;
  int64_t published_[figure_count] = {};
  LoadAverage averages_[load_count];
};

}  // namespace mqttd

#endif
