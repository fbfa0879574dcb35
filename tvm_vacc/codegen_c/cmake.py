"""The CMakeLists.txt of a package of C sources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

THREADS = "vacc_threads.c"
"""Needs POSIX threads; goes into the example programs, where the system has them."""


def cmake_lists(library: Sequence[str], programs: Sequence[str]) -> str:
    """Return the text of the file.

    Args:
        library: sources of the library ``vacc_model``.
        programs: sources of example programs, one each, named after it.
    """
    text = _LIBRARY.format(sources="".join(f"    {name}\n" for name in sorted(library)).rstrip())
    for source in programs:
        text += _PROGRAM.format(name=PurePath(source).stem, source=source, threads=THREADS)
    return text


_LIBRARY = """\
cmake_minimum_required(VERSION 3.10)
project(vacc_model C)

if(NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE Release)
endif()

option(VACC_PLAIN_C "No vector extensions: plain loops only" OFF)
option(VACC_EXAMPLES "Build the example programs" ON)

add_library(vacc_model
{sources})
set_target_properties(vacc_model PROPERTIES C_STANDARD 99 C_EXTENSIONS OFF
    POSITION_INDEPENDENT_CODE ON)
target_include_directories(vacc_model PUBLIC ${{CMAKE_CURRENT_SOURCE_DIR}})
if(VACC_PLAIN_C)
    target_compile_definitions(vacc_model PRIVATE VACC_PLAIN_C)
endif()
if(CMAKE_C_COMPILER_ID MATCHES "GNU|Clang")
    # Results do not depend on the compiler: no products fused with sums. Every vector is inlined.
    target_compile_options(vacc_model PRIVATE -ffp-contract=off -Wno-psabi)
endif()
if(UNIX)
    target_link_libraries(vacc_model PUBLIC m)
endif()
"""

_PROGRAM = """
if(VACC_EXAMPLES)
    add_executable({name} {source})
    set_target_properties({name} PROPERTIES C_STANDARD 99 C_EXTENSIONS OFF)
    target_link_libraries({name} PRIVATE vacc_model)
    set(THREADS_PREFER_PTHREAD_FLAG ON)
    find_package(Threads)
    if(CMAKE_USE_PTHREADS_INIT)
        target_sources({name} PRIVATE {threads})
        target_compile_definitions({name} PRIVATE VACC_THREADS)
        target_link_libraries({name} PRIVATE Threads::Threads)
    endif()
endif()
"""
