// What lies between go-xla and a PJRT plugin: see pjrt.go.
#ifndef T5CTL_PJRT_HOOK_H
#define T5CTL_PJRT_HOOK_H

#include <stdint.h>

#include "pjrt_c_api.h"

// Bytes that a compiled program takes.
typedef struct {
  int64_t code, inputs, outputs, aliases, temporary;
} hook_stats;

// hook_open loads a plugin and gives the address of a copy of its table, in which compiling goes
// through Go. NULL, or what went wrong.
const char* hook_open(const char* path, uintptr_t* api);

// hook_trim gives free memory of the C library back to the system.
void hook_trim(void);

// hook_compile lets the plugin compile a program with other code than the one in args.
PJRT_Error* hook_compile(PJRT_Client_Compile_Args* args, const char* code, size_t size);

// hook_load puts a serialized program in the place of a compiled one; 0 where the plugin refuses it.
int hook_load(PJRT_Client_Compile_Args* args, const char* bytes, size_t size);

// hook_memory asks what memory a program takes; 0 where the plugin does not say.
int hook_memory(PJRT_LoadedExecutable* loaded, hook_stats* stats);

// hook_serialize gives a program's bytes, to be freed; NULL where the plugin cannot.
char* hook_serialize(PJRT_LoadedExecutable* loaded, size_t* size);

#endif
