# The LibTorch that the environment variable DIFFMASK_TORCH names, its CUDA libraries included, in
# place of LibTorch's own package, which stops where a part of the CUDA toolkit is missing. DiffMask
# compiles nothing for GPUs itself, so it needs none of it.
set(TORCH_INCLUDE_DIRS $ENV{DIFFMASK_TORCH}/include
                       $ENV{DIFFMASK_TORCH}/include/torch/csrc/api/include)
if(NOT TARGET torch)
  add_library(torch INTERFACE IMPORTED GLOBAL)
  target_include_directories(torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
  # LibTorch's headers lay out some classes by these, so a program must say what its wheel was built with.
  target_compile_definitions(torch INTERFACE USE_DISTRIBUTED USE_C10D_GLOO USE_RPC USE_TENSORPIPE)
  set(libraries)
  foreach(name torch torch_cpu torch_cuda c10_cuda c10)
    if(EXISTS $ENV{DIFFMASK_TORCH}/lib/lib${name}.so)
      list(APPEND libraries $ENV{DIFFMASK_TORCH}/lib/lib${name}.so)
    endif()
  endforeach()
  # LibTorch's own C++ runtime, found before the static one that some compilers link: two of them in
  # one program free each other's memory.
  execute_process(COMMAND ldd $ENV{DIFFMASK_TORCH}/lib/libc10.so OUTPUT_VARIABLE needed)
  foreach(name libstdc\\+\\+ libgcc_s)
    if(needed MATCHES "=> (/[^ ]*/${name}\\.so[.0-9]*)")
      list(APPEND libraries ${CMAKE_MATCH_1})
    endif()
  endforeach()
  list(JOIN libraries "," libraries)
  # No symbol of the CUDA libraries is used by name: loading them is what counts. What they need
  # themselves is found when a program starts.
  target_link_options(torch INTERFACE
                      "-Wl,-rpath,$ENV{DIFFMASK_TORCH}/lib"
                      "-Wl,--unresolved-symbols=ignore-in-shared-libs")
  target_link_libraries(torch INTERFACE "-Wl,--no-as-needed,${libraries},--as-needed")
endif()
set(TORCH_LIBRARIES torch)
set(Torch_FOUND TRUE)
