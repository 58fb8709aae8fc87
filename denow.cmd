@echo off
rem Runs the Deno that Lamina is pinned to, with the same arguments: the Windows twin of denow (see there).
rem UNTESTED: nobody has run this file on Windows yet. The Vulkan driver (or D3D12) is part of the system here.
rem Delayed expansion stays off, or a prompt would lose its exclamation marks.
setlocal EnableExtensions DisableDelayedExpansion
rem As in denow, "run -P..." and "task" get a -q in front.
set "denow_quiet="
if "%~1"=="task" set "denow_quiet=-q"
if "%~1"=="run" (
  if "%~2"=="-P" set "denow_quiet=-q"
  if "%~2"=="--permission-set" set "denow_quiet=-q"
)
set "denow_root=%~dp0"
set /p denow_version=<"%denow_root%.deno-version"
set "denow_home=%denow_root%.deno\%denow_version%"
set "denow_deno=%denow_home%\deno.exe"
if exist "%denow_deno%" goto own

rem One on PATH counts when its version is the pinned one; the answer is kept with the file's name, time and size.
set "denow_found="
for %%i in (deno.exe) do set "denow_found=%%~$PATH:i"
if not defined denow_found goto install
for %%f in ("%denow_found%") do set "denow_identity=%%~ff %%~tf %%~zf"
set denow_known=""
if exist "%denow_home%\on-path" set /p denow_known=<"%denow_home%\on-path"
if %denow_known%=="%denow_identity%" goto found
"%denow_found%" --version 2>nul | findstr /b /c:"deno %denow_version% " >nul || goto install
if not exist "%denow_home%" mkdir "%denow_home%" 2>nul
>"%denow_home%\on-path" echo "%denow_identity%"
:found
"%denow_found%" %denow_quiet% %*
exit /b %ERRORLEVEL%

:install
if defined LAMINA_NO_INSTALL if not "%LAMINA_NO_INSTALL%"=="0" (
  >&2 echo denow: Deno %denow_version% is not on PATH, and LAMINA_NO_INSTALL is set
  exit /b 1
)
set "denow_scratch=%denow_root%.deno\tmp.%RANDOM%%RANDOM%"
set "denow_log=%denow_root%.deno\deno-install.log"
mkdir "%denow_scratch%" || exit /b 1
type nul >"%denow_log%"
where /q npm || goto release
>&2 echo denow: installing Deno %denow_version% with npm into %denow_home%
call npm install --prefix "%denow_scratch%" --include=optional --ignore-scripts --no-audit --no-fund --no-save "deno@%denow_version%" >>"%denow_log%" 2>&1 <nul
for /d %%d in ("%denow_scratch%\node_modules\@deno\*") do call :adopt "%%d\deno.exe"
if exist "%denow_deno%" goto installed

rem The file that Deno's own installer would download; the installer itself would also change the user's PATH.
:release
>&2 echo denow: downloading Deno %denow_version% into %denow_home%
set "denow_target=x86_64-pc-windows-msvc"
if "%PROCESSOR_ARCHITECTURE%"=="ARM64" set "denow_target=aarch64-pc-windows-msvc"
curl -fsSL -o "%denow_scratch%\deno.zip" "https://dl.deno.land/release/v%denow_version%/deno-%denow_target%.zip" >>"%denow_log%" 2>&1
if exist "%denow_scratch%\deno.zip" tar -xf "%denow_scratch%\deno.zip" -C "%denow_scratch%" >>"%denow_log%" 2>&1
call :adopt "%denow_scratch%\deno.exe"

:installed
rmdir /s /q "%denow_scratch%" 2>nul
if not exist "%denow_deno%" (
  >&2 echo denow: cannot install Deno %denow_version% ^(see "%denow_log%"^): install it yourself ^(https://deno.com^) and put it on PATH
  exit /b 1
)
del "%denow_log%" 2>nul

rem What Deno starts finds the same Deno.
:own
set "PATH=%denow_home%;%PATH%"
"%denow_deno%" %denow_quiet% %*
exit /b %ERRORLEVEL%

rem The file appears under its name by a move, complete: two installations at once do no harm.
:adopt
if not exist "%~1" exit /b 1
"%~1" --version 2>nul | findstr /b /c:"deno %denow_version% " >nul || exit /b 1
if not exist "%denow_home%" mkdir "%denow_home%" 2>nul
move /y "%~1" "%denow_deno%" >nul 2>nul
exit /b
