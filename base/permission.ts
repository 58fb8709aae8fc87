/**
 * Whether something is allowed already. In a terminal Deno stops and asks about what is not, so whatever can be done without
 * has to look first: catching the refusal is too late.
 */
export function isGranted(descriptor: Deno.PermissionDescriptor): boolean {
  return Deno.permissions.querySync(descriptor).state === "granted";
}
