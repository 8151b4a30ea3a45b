# Open a directory by its handle, as an NFS server does with each file. Print "opened", or the error, or "unknown"
# if only root can tell. Every Debian and Ubuntu has perl (perl-base), which makes system calls without a compiler.
#
# Usage: perl open_by_handle.pl DIRECTORY
use strict;
use Config;

my %calls = (x86_64 => [303, 304], aarch64 => [264, 265]);
my ($name_to_handle_at, $open_by_handle_at) = @{$calls{(split /-/, $Config{archname})[0]} || []};
# struct file_handle: size, type and bytes of the handle.
my ($handle, $mount_id) = (pack(q(Ii a128), 128, 0, q()), pack(q(i), 0));

sub try_it {
    return q(unknown) unless $open_by_handle_at;
    my ($capabilities, $users) = map { open my $file, q(<), "/proc/self/$_"; join q(), <$file> } qw(status uid_map);
    # Without CAP_DAC_READ_SEARCH, kernels from 6.11 on reject the bad descriptor first, if nothing forbids the call.
    if ($capabilities =~ /^CapEff:.*([0-9a-f])$/m && !(hex($1) & 4)) {
        syscall($open_by_handle_at, -1, $handle, 0);
        return $!{EBADF} && $users =~ /^\s*0\s+0\s/ ? q(opened) : q(unknown);
    }
    open my $directory, q(<), $ARGV[0] or return $!;
    syscall($name_to_handle_at, -100, $ARGV[0], $handle, $mount_id, 0) == 0 or return $!;
    # Without O_DIRECTORY, which newer kernels allow to more callers.
    return syscall($open_by_handle_at, fileno($directory), $handle, 0) < 0 ? $! : q(opened);
}

print try_it(), "\n";
