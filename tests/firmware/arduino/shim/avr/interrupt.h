#pragma once
static inline void cli(void) {}
static inline void sei(void) {}
