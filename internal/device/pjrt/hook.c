//go:build cgo && !noxla && unix

#include "hook.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

// The plugin's own table, and the one that is handed out in its place. A process has one plugin.
static const PJRT_Api* own;
static PJRT_Api* table;

// compileProgram is Go's (pjrt.go).
extern PJRT_Error* compileProgram(PJRT_Client_Compile_Args* args);

const char* hook_open(const char* path, uintptr_t* api) {
#ifdef __GLIBC__
  mallopt(M_ARENA_MAX, 1);  // tensors that lie in one heap a thread leave holes in all of them
#endif
  void* library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
  if (library == NULL) return dlerror();
  const PJRT_Api* (*get)(void) = (const PJRT_Api* (*)(void))dlsym(library, "GetPjrtApi");
  if (get == NULL) return dlerror();
  own = get();
  if (own == NULL) return "GetPjrtApi gave nothing";
  // The table grows at its end: one of an older plugin lacks the last functions, one of a newer
  // plugin has more than this program knows of.
  if (own->struct_size < offsetof(PJRT_Api, PJRT_Executable_GetCompiledMemoryStats) + sizeof(void*))
    return "the plugin is too old: it cannot say what memory a program takes";
  table = malloc(own->struct_size);
  if (table == NULL) return "out of memory";
  memcpy(table, own, own->struct_size);
  table->PJRT_Client_Compile = compileProgram;
  *api = (uintptr_t)table;
  return NULL;
}

void hook_trim(void) {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

PJRT_Error* hook_compile(PJRT_Client_Compile_Args* args, const char* code, size_t size) {
  PJRT_Program program = *args->program;
  program.code = (char*)code;
  program.code_size = size;
  const PJRT_Program* given = args->program;
  args->program = &program;
  PJRT_Error* error = own->PJRT_Client_Compile(args);
  args->program = given;
  hook_trim();  // a compiler leaves much that is free and still resident
  return error;
}

static void forget(PJRT_Error* error) {
  PJRT_Error_Destroy_Args args = {.struct_size = PJRT_Error_Destroy_Args_STRUCT_SIZE, .error = error};
  own->PJRT_Error_Destroy(&args);
}

int hook_load(PJRT_Client_Compile_Args* args, const char* bytes, size_t size) {
  PJRT_Executable_DeserializeAndLoad_Args load = {
      .struct_size = PJRT_Executable_DeserializeAndLoad_Args_STRUCT_SIZE,
      .client = args->client,
      .serialized_executable = bytes,
      .serialized_executable_size = size,
  };
  PJRT_Error* error = own->PJRT_Executable_DeserializeAndLoad(&load);
  if (error != NULL) {
    forget(error);
    return 0;
  }
  args->executable = load.loaded_executable;
  return 1;
}

// executable_of gives what a loaded program was made of; NULL where the plugin does not say.
static PJRT_Executable* executable_of(PJRT_LoadedExecutable* loaded) {
  PJRT_LoadedExecutable_GetExecutable_Args args = {
      .struct_size = PJRT_LoadedExecutable_GetExecutable_Args_STRUCT_SIZE, .loaded_executable = loaded};
  PJRT_Error* error = own->PJRT_LoadedExecutable_GetExecutable(&args);
  if (error != NULL) {
    forget(error);
    return NULL;
  }
  return args.executable;
}

static void release(PJRT_Executable* executable) {
  PJRT_Executable_Destroy_Args args = {.struct_size = PJRT_Executable_Destroy_Args_STRUCT_SIZE, .executable = executable};
  PJRT_Error* error = own->PJRT_Executable_Destroy(&args);
  if (error != NULL) forget(error);
}

int hook_memory(PJRT_LoadedExecutable* loaded, hook_stats* stats) {
  PJRT_Executable* executable = executable_of(loaded);
  if (executable == NULL) return 0;
  PJRT_Executable_GetCompiledMemoryStats_Args args = {
      .struct_size = PJRT_Executable_GetCompiledMemoryStats_Args_STRUCT_SIZE, .executable = executable};
  PJRT_Error* error = own->PJRT_Executable_GetCompiledMemoryStats(&args);
  release(executable);
  if (error != NULL) {
    forget(error);
    return 0;
  }
  stats->code = args.generated_code_size_in_bytes;
  stats->inputs = args.argument_size_in_bytes;
  stats->outputs = args.output_size_in_bytes;
  stats->aliases = args.alias_size_in_bytes;
  stats->temporary = args.temp_size_in_bytes;
  return 1;
}

char* hook_serialize(PJRT_LoadedExecutable* loaded, size_t* size) {
  PJRT_Executable* executable = executable_of(loaded);
  if (executable == NULL) return NULL;
  PJRT_Executable_Serialize_Args args = {.struct_size = PJRT_Executable_Serialize_Args_STRUCT_SIZE, .executable = executable};
  PJRT_Error* error = own->PJRT_Executable_Serialize(&args);
  char* copy = NULL;
  if (error != NULL) {
    forget(error);
  } else {
    copy = malloc(args.serialized_bytes_size);
    if (copy != NULL) {
      memcpy(copy, args.serialized_bytes, args.serialized_bytes_size);
      *size = args.serialized_bytes_size;
    }
    args.serialized_executable_deleter(args.serialized_executable);
  }
  release(executable);
  return copy;
}
